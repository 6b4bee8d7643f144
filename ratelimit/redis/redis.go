// Package redis is a rate limiter with counters in Redis or Valkey, which all replicas share.
package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"extauthz/ratelimit"
	"extauthz/redisclient"
)

// DefaultPrefix is the default of Prefix in [Options].
const DefaultPrefix = "extauthz:ratelimit:"

// Options configure a [Limiter].
type Options struct {
	URL     string        // see redisclient.Connect
	Prefix  string        // of every counter's name, without braces; empty: DefaultPrefix
	Timeout time.Duration // of one request, well below that of Envoy's call; 0: [ratelimit.DefaultTimeout]
}

// A Limiter counts in Redis. A request takes one round trip, in which one script reads all counters
// and charges all or none, by the server's clock. Empty counters expire. It works with a cluster:
// the names of a key's own counters and of those that it shares with its owner's other keys have the
// same hash tag, that of the owner (or, without one, of the key), and so are in one slot. The
// counters of a key whose owner changes start at zero.
//
// Lua counts exactly up to 2⁵³. A request that was not answered in time may have been charged.
type Limiter struct {
	client  *redisclient.Client
	prefix  string
	timeout time.Duration
	breaker breaker
	now     func() time.Time // nil: the server's clock; tests set another
}

var _ ratelimit.Limiter = (*Limiter)(nil)

//go:embed take.lua
var source string

// A script that changes nothing, or whose repetition Redis recognizes, may be sent again if its
// connection breaks before the answer.
var (
	script       = rueidis.NewLuaScript(source)
	repeatable   = rueidis.NewLuaScriptRetryable(source)
	repeatWithin = strconv.FormatInt(ratelimit.RepeatWithin.Milliseconds(), 10)
)

// Open returns a Limiter. It fails only if the options are invalid, not if Redis is unreachable: the
// Limiter works as soon as Redis answers.
func Open(ctx context.Context, o Options) (*Limiter, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if strings.ContainsAny(o.Prefix, "{}") {
		return nil, errors.New("redis: the prefix contains a brace, which would change the slot of the counters in a cluster: write one without braces")
	}
	if o.Timeout <= 0 {
		o.Timeout = ratelimit.DefaultTimeout
	}
	client, err := redisclient.Connect(ctx, o.URL)
	if err != nil {
		return nil, err
	}
	return &Limiter{client: client, prefix: o.Prefix, timeout: o.Timeout}, nil
}

// Close ends the connection to Redis.
func (l *Limiter) Close() { l.client.Close() }

// Take implements [ratelimit.Limiter].
func (l *Limiter) Take(ctx context.Context, s ratelimit.Subject, charges []ratelimit.Charge) (ratelimit.Result, error) {
	return l.run(ctx, s, charges, "1")
}

// Look implements [ratelimit.Limiter].
func (l *Limiter) Look(ctx context.Context, s ratelimit.Subject, charges []ratelimit.Charge) (ratelimit.Result, error) {
	return l.run(ctx, s, charges, "0")
}

func (l *Limiter) run(ctx context.Context, s ratelimit.Subject, charges []ratelimit.Charge, spend string) (ratelimit.Result, error) {
	if len(charges) == 0 {
		return ratelimit.Result{}, nil
	}
	if !l.breaker.allows(time.Now()) {
		return ratelimit.Result{}, fmt.Errorf("redis: %w", errHung)
	}
	numbers, err := l.ask(ctx, s, charges, spend)
	switch {
	case err != nil:
		return ratelimit.Result{}, fmt.Errorf("redis: %w", err)
	case len(numbers) != 4*len(charges):
		return ratelimit.Result{}, fmt.Errorf("redis: %d numbers for %d limits", len(numbers), len(charges))
	}
	limits := make([]ratelimit.Status, len(charges))
	for i, c := range charges {
		n := numbers[4*i:]
		limits[i] = ratelimit.Status{
			Charge:    c,
			Remaining: max(c.Limit-n[0], 0),
			Next:      time.Duration(n[1]) * time.Microsecond,
			Reset:     time.Duration(n[2]) * time.Microsecond,
			Wait:      time.Duration(n[3]) * time.Microsecond,
		}
	}
	return ratelimit.Result{Limits: limits}, nil
}

// ask runs the script and returns its answer.
func (l *Limiter) ask(ctx context.Context, s ratelimit.Subject, charges []ratelimit.Charge, spend string) ([]int64, error) {
	keys, args := l.arguments(s, charges, spend)
	script := script
	if s.Request != "" || spend == "0" {
		script = repeatable
	}
	timeout, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	numbers, err := l.client.Do(timeout, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return script.Exec(ctx, client, keys, args)
	}).AsIntSlice()
	switch {
	case err == nil:
		l.breaker.answered()
	case timeout.Err() != nil && ctx.Err() == nil:
		l.breaker.missed(time.Now())
	}
	return numbers, err
}

func (l *Limiter) arguments(s ratelimit.Subject, charges []ratelimit.Charge, spend string) (keys, args []string) {
	now := ""
	if l.now != nil {
		now = strconv.FormatInt(l.now().UnixMicro(), 10)
	}
	tag := s.Owner
	if tag == "" {
		tag = s.Key
	}
	// Escape it, because a brace would end the hash tag. Nothing after it contains a slash.
	tag = l.prefix + "{" + url.QueryEscape(tag) + "}"
	keys = make([]string, len(charges), len(charges)+1)
	args = append(make([]string, 0, 3+4*len(charges)), now, spend, repeatWithin)
	request := fnv.New64a()
	_, _ = io.WriteString(request, s.Request+"/"+s.Key) // it never fails
	for i, c := range charges {
		kind := "/key/" + s.Key
		if c.Shared {
			kind = "/owner"
		}
		duration, cost := strconv.FormatInt(c.Duration.Microseconds(), 10), strconv.FormatInt(c.Cost, 10)
		counter := kind + "/" + c.Name + "/" + duration
		_, _ = io.WriteString(request, counter+"="+cost)
		keys[i] = tag + counter
		args = append(
			args,
			strconv.FormatInt(c.Limit, 10), cost,
			duration, strconv.FormatInt(ratelimit.SlotWidth(c.Limit, c.Duration).Microseconds(), 10),
		)
	}
	if s.Request != "" {
		keys = append(keys, tag+"/charged/"+strconv.FormatUint(request.Sum64(), 16))
	}
	return keys, args
}
