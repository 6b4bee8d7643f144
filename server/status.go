package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/keystore/cache"
)

// A status is what /readyz?verbose reports beside the readiness. It is safe for concurrent use.
type status struct {
	mu      sync.Mutex
	config  loadReport
	keys    *loadReport    // nil if the keys are not in memory
	store   *storeReport   // nil until the store is open
	channel *channelReport // nil until the store is open

	ask   func(context.Context) error // nil until the store is open
	cache func() cache.Stats          // nil until the store is open

	asking sync.Mutex // held while the store is asked
	asked  time.Time  // guarded by asking
}

// A statusReport is the body of /readyz?verbose.
type statusReport struct {
	Ready       bool           `json:"ready"`
	Reason      string         `json:"reason,omitempty"` // why it is not ready
	Version     string         `json:"version"`
	Revision    string         `json:"revision,omitempty"`
	Store       *storeReport   `json:"store,omitempty"`
	Channel     *channelReport `json:"channel,omitempty"`
	OldestStale float64        `json:"oldest_stale_seconds"`
	Config      loadReport     `json:"config"`
	Keys        *loadReport    `json:"keys,omitempty"`
}

// A storeReport is the state of the store of keys.
type storeReport struct {
	Kind       string    `json:"kind"`
	Reachable  bool      `json:"reachable"` // as it was seen last
	Since      time.Time `json:"since,omitzero"`
	ErrorClass string    `json:"error_class,omitempty"`
	Error      string    `json:"error,omitempty"`
	Outage     bool      `json:"outage"` // look-ups fail, as extauthz_cache_store_outage
}

// A channelReport is the state of what reports changes of keys.
type channelReport struct {
	Kind  string    `json:"kind"`
	Up    bool      `json:"up"`
	Since time.Time `json:"since,omitzero"`
	Error string    `json:"error,omitempty"`
}

// A loadReport says how the last load of the configuration, or of the keys, went.
type loadReport struct {
	Loaded time.Time `json:"loaded,omitzero"` // when what is in use was read
	Tried  time.Time `json:"tried,omitzero"`  // when it was read last, with success or not
	Failed bool      `json:"failed"`          // the last load, so that an earlier one is in use
	Error  string    `json:"error,omitempty"`
}

func (r *loadReport) record(err error) {
	r.Tried = time.Now().UTC()
	if r.Failed, r.Error = err != nil, ""; err != nil {
		r.Error = clip(err.Error())
		return
	}
	r.Loaded = r.Tried
}

// opened records that the store is open. cache returns the figures of its cache.
func (s *status) opened(c config.Store, inMemory bool, ask func(context.Context) error, cache func() cache.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC()
	s.ask, s.cache = ask, cache
	s.store = &storeReport{Kind: "yaml", Reachable: inMemory, Since: now}
	if s.channel == nil { // it may have reported before
		s.channel = &channelReport{Up: inMemory, Since: now}
	}
	s.channel.Kind = "file notifications"
	switch {
	case c.Postgres != nil:
		s.store.Kind, s.channel.Kind = "postgres", "LISTEN/NOTIFY"
	case c.Redis != nil:
		s.store.Kind, s.channel.Kind = "redis", "client tracking"
	}
	if inMemory {
		s.keys = &loadReport{Loaded: now, Tried: now}
	}
}

// configRead records how reading the configuration went.
func (s *status) configRead(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.record(err)
}

// keysRead records how reading the keys went.
func (s *status) keysRead(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys != nil {
		s.keys.record(err)
	}
}

// channelChanged records that changes of keys are reported, or are not because of err.
func (s *status) channelChanged(up bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channel == nil {
		s.channel = new(channelReport)
	}
	if c := s.channel; c.Since.IsZero() || c.Up != up {
		c.Up, c.Since = up, time.Now().UTC()
	}
	if s.channel.Error = ""; err != nil {
		s.channel.Error = clip(oneLine(err))
	}
}

// storeAnswered records that the store has answered, or has not because of err.
func (s *status) storeAnswered(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.store
	if r == nil {
		return
	}
	if up := err == nil; r.Reachable != up {
		r.Reachable, r.Since = up, time.Now().UTC()
	}
	if r.Error, r.ErrorClass = "", errorClass(err); err != nil {
		r.Error = clip(oneLine(err))
	}
}

// errorClass returns in a word why a store does not answer; "" for nil.
func errorClass(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, keystore.ErrBusy):
		return "busy"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, keystore.ErrUnreachable):
		return "unreachable"
	}
	if network, ok := errors.AsType[net.Error](err); ok {
		if network.Timeout() {
			return "timeout"
		}
		return "unreachable"
	}
	return "error"
}

// askEvery is how often the store is asked at most, however often the status is.
const askEvery = time.Second

// askStore asks the store whether it answers, unless that was just done.
func (s *status) askStore(ctx context.Context) {
	s.mu.Lock()
	ask := s.ask
	s.mu.Unlock()
	if ask == nil {
		return
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if time.Since(s.asked) < askEvery {
		return
	}
	err := ask(ctx)
	if ctx.Err() != nil {
		return // the client went away
	}
	s.storeAnswered(err)
	s.asked = time.Now()
}

// serve writes the status as JSON. why says why the server is not ready; "" if it is.
func (s *status) serve(w http.ResponseWriter, r *http.Request, why string, o Options) {
	s.askStore(r.Context())
	s.mu.Lock()
	report := statusReport{
		Ready: why == "", Reason: why, Version: o.Version, Revision: o.Revision,
		Store: s.store, Channel: s.channel, Config: s.config, Keys: s.keys,
	}
	if s.cache != nil {
		stats := s.cache()
		report.OldestStale = stats.OldestStale.Seconds()
		s.store.Outage = stats.StoreOutage
	}
	body, err := json.MarshalIndent(report, "", "  ")
	s.mu.Unlock()
	if err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(readyStatus(why))
	_, _ = w.Write(append(body, '\n'))
}
