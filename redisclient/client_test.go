package redisclient

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// connect connects a client that closes with the test.
func connect(t *testing.T, url string) *Client {
	t.Helper()
	c, err := Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ping returns an error if Redis does not answer.
func ping(t *testing.T, c *Client) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	if err := c.Get(ctx, "absent").Error(); !rueidis.IsRedisNil(err) {
		return err
	}
	return nil
}

// If Redis hangs, at most maxWaiting calls wait for it, and further ones fail with ErrBusy.
func TestHungRedisHoldsFewGoroutines(t *testing.T) {
	r := redistest.Start(t)
	p := redistest.StartProxy(t, r.Addr())
	c := connect(t, "redis://"+p.Addr()+"?write_timeout=1h")
	answers := func(ctx context.Context) bool { return rueidis.IsRedisNil(c.Get(ctx, "absent").Error()) }
	if !answers(t.Context()) {
		t.Fatal("no answer")
	}
	p.Cut(true)
	const callers, each = 100, 300
	before := runtime.NumGoroutine()
	var most, busy, late atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				err := c.Get(ctx, "absent").Error()
				cancel()
				switch {
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				default:
					t.Errorf("%v, want that it is busy or late", err)
				}
			}
			most.Store(max(most.Load(), int64(runtime.NumGoroutine()-before)))
		})
	}
	wg.Wait()
	t.Logf("%d goroutines, %d late, %d busy", most.Load(), late.Load(), busy.Load())
	if most.Load() > maxWaiting+callers+100 {
		t.Errorf("%d goroutines, want at most about %d", most.Load(), maxWaiting)
	}
	if busy.Load() == 0 {
		t.Error("none failed as busy")
	}
	p.Mend()
	polltest.Until(t, "it answers again", func() bool { return answers(t.Context()) })
	polltest.Until(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() < before+100 })
}

func TestClosed(t *testing.T) {
	c := connect(t, redistest.Start(t).URL())
	if err := ping(t, c); err != nil {
		t.Error(err)
	}
	c.Close()
	c.Close()
	if err := ping(t, c); !errors.Is(err, errClosed) {
		t.Errorf("%v, want that it is closed", err)
	}
	down := connect(t, "redis://127.0.0.1:1")
	if err := ping(t, down); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v, want that the connection is refused", err)
	}
	down.Close()
	if err := ping(t, down); !errors.Is(err, errClosed) {
		t.Errorf("%v, want that it is closed", err)
	}
}
