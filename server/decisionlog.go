package server

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"extauthz/authz"
	"extauthz/check"
)

const (
	samplePeriod = 10 * time.Second

	// The lines that are written in one period. Further ones are only counted.
	linesPerKey     = 10  // for each code and key
	linesWithoutKey = 100 // for each code without a key
	sampledKeys     = 256 // keys with a count of their own, for each code; all others share one count

	loudestKeys = 5 // named in a summary
)

// A decisionLog logs decisions: allowed ones at debug, refusals and what a whitelist in report mode
// would have refused at info, and failures to decide at error. Unless the level is debug, or all is
// true, lines are sampled by code and key, so that a flood of requests can neither fill a disk nor
// hide the decisions on other keys. It is safe for concurrent use.
type decisionLog struct {
	log *slog.Logger
	all atomic.Bool // nothing is sampled

	mu      sync.Mutex
	samples []map[string]*count // in this period: by code, and then by the key's id; "" is no key
	others  []count             // by code: of the keys for which there was no room
}

// A count is how often one outcome occurred in a period.
type count struct{ lines, suppressed int }

func newDecisionLog(log *slog.Logger) *decisionLog {
	codes := len(authz.Codes())
	d := &decisionLog{log: log, samples: make([]map[string]*count, codes), others: make([]count, codes)}
	for code := range d.samples {
		d.samples[code] = make(map[string]*count)
	}
	return d
}

// observe logs one check. It does not keep o.
func (d *decisionLog) observe(ctx context.Context, o *check.Observation) {
	level := levelOf(o)
	if !d.log.Enabled(ctx, level) {
		return
	}
	if !d.all.Load() && !d.log.Enabled(ctx, slog.LevelDebug) && !d.sample(o) {
		return
	}
	attrs := make([]slog.Attr, 0, 15)
	attrs = append(attrs, slog.String("code", o.Decision.Code.String()))
	if k := o.Decision.Key; k != nil {
		attrs = append(attrs, slog.String("key_id", k.ID))
		if k.Name != "" {
			attrs = append(attrs, slog.String("key_name", k.Name))
		}
	}
	if o.ClientAddr.IsValid() {
		attrs = append(attrs, slog.String("client_address", o.ClientAddr.String()))
	}
	attrs = append(attrs, slog.String("client_address_from", o.AddrFrom))
	if o.AddrErr != nil {
		attrs = append(attrs, slog.String("client_address_error", clip(o.AddrErr.Error())))
	}
	attrs = append(attrs, slog.String("method", o.Method), slog.String("host", o.Host), slog.String("path", o.Path))
	if o.Permissions != "" {
		attrs = append(attrs, slog.String("permissions", clip(o.Permissions)))
	}
	if o.Ratelimits != "" {
		attrs = append(attrs, slog.String("ratelimits", clip(o.Ratelimits)))
	}
	if o.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", o.RequestID))
	}
	if o.RouteErr != nil {
		attrs = append(attrs, slog.String("route_error", clip(o.RouteErr.Error())))
	}
	if o.LetThrough {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	if o.Decision.WouldRefuse {
		attrs = append(attrs, slog.String("would_refuse", authz.Forbidden.String()))
	}
	if o.Err != nil {
		attrs = append(attrs, slog.String("error", clip(o.Err.Error())))
	}
	d.log.LogAttrs(ctx, level, "decision", attrs...)
}

func levelOf(o *check.Observation) slog.Level {
	switch {
	case o.Err != nil || o.Decision.Code == authz.Unavailable:
		return slog.LevelError
	case o.Decision.Code.Allowed() && !o.Decision.WouldRefuse:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// sample reports whether a check is to be logged, and counts it.
func (d *decisionLog) sample(o *check.Observation) bool {
	code, id, limit := o.Decision.Code, "", linesWithoutKey
	if o.Decision.Key != nil {
		id, limit = o.Decision.Key.ID, linesPerKey
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.samples[code][id]
	switch {
	case c != nil:
	case len(d.samples[code]) < sampledKeys || id == "":
		c = new(count)
		d.samples[code][id] = c
	default:
		c, limit = &d.others[code], linesWithoutKey
	}
	if c.lines < limit {
		c.lines++
		return true
	}
	c.suppressed++
	return false
}

// summarize ends each period until ctx ends.
func (d *decisionLog) summarize(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.flush()
		}
	}
}

// flush ends a period, and logs the counts of the lines that were suppressed in it.
func (d *decisionLog) flush() {
	for _, code := range authz.Codes() {
		d.mu.Lock()
		keys, others := d.samples[code], d.others[code]
		if len(keys) == 0 {
			d.mu.Unlock()
			continue
		}
		d.samples[code], d.others[code] = make(map[string]*count), count{} // keys is ours alone from here on
		d.mu.Unlock()
		maps.DeleteFunc(keys, func(_ string, c *count) bool { return c.suppressed == 0 })
		total := others.suppressed
		for _, c := range keys {
			total += c.suppressed
		}
		if total == 0 {
			continue
		}
		delete(keys, "")
		attrs := []any{"code", code.String(), "suppressed", total}
		if code.Allowed() { // others that are allowed are not sampled
			attrs = append(attrs, "would_refuse", authz.Forbidden.String())
		}
		if len(keys) > 0 {
			attrs = append(attrs, "loudest_keys", loudest(keys))
		}
		d.log.Warn("decisions were not logged individually: there were too many", attrs...)
	}
}

// loudest returns the keys with the most suppressed lines, such as "key_a=2970 key_b=12".
func loudest(keys map[string]*count) string {
	ids := slices.SortedFunc(maps.Keys(keys), func(a, b string) int {
		return cmp.Or(cmp.Compare(keys[b].suppressed, keys[a].suppressed), cmp.Compare(a, b))
	})
	var b strings.Builder
	for i, id := range ids[:min(len(ids), loudestKeys)] {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(id + "=" + strconv.Itoa(keys[id].suppressed))
	}
	return b.String()
}
