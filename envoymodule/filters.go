package envoymodule

import (
	"errors"
	"strings"
	"sync"
	"time"
)

// A Source is what a filter is configured with: the path of a configuration file, or its text.
type Source struct{ Path, Text string }

var errNoSource = errors.New("filter_config is empty: write the path of a configuration file, such as /etc/extauthz/extauthz.yaml, or the text of one")

// ParseSource reads the filter's configuration. What begins with a brace or has more than one line is a
// configuration itself; anything else is the path of one.
func ParseSource(config string) (Source, error) {
	trimmed := strings.TrimSpace(config)
	switch {
	case trimmed == "":
		return Source{}, errNoSource
	case strings.HasPrefix(trimmed, "{") || strings.Contains(trimmed, "\n"):
		return Source{Text: config}, nil // as it is, for the places in errors
	}
	return Source{Path: trimmed}, nil
}

// Filters are the filters of a process. Those with the same configuration share one [Filter], with its
// keys, cache and rate limits: when Envoy updates a listener, it opens the new filter before it closes the
// old one. It is safe for concurrent use.
type Filters struct {
	// Start starts what checks the requests of a configuration.
	Start func(Source) (Backend, error)

	mu      sync.Mutex
	open    map[string]*Filter
	closing sync.WaitGroup
}

// Open returns the filter with this configuration. Each call must be followed by one of Close.
func (s *Filters) Open(config string) (*Filter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.open[config]
	if f == nil {
		source, err := ParseSource(config)
		if err != nil {
			return nil, err
		}
		b, err := s.Start(source)
		if err != nil {
			return nil, err
		}
		if s.open == nil {
			s.open = map[string]*Filter{}
		}
		f = newFilter(strings.Clone(config), b)
		s.open[f.key] = f
	}
	f.users++
	return f, nil
}

// Close ends one use of the filter. The last one closes it, in the background: Close does not block.
func (s *Filters) Close(f *Filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	delete(s.open, f.key)
	s.closing.Go(f.backend.Close)
}

// Wait waits until everything that was closed has ended, but no longer than limit.
func (s *Filters) Wait(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		s.closing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
