package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	dialTimeout  = 2 * time.Second
	writeTimeout = 3 * time.Second // also how long a silent connection is waited for

	retryFirst = 100 * time.Millisecond
	retryLast  = time.Second

	// How many calls may be waiting for a Redis that does not answer; about as many as fit
	// into its connections.
	maxWaiting = 4096
)

var (
	errClosed = errors.New("the connection is closed")
	errBusy   = fmt.Errorf("%d calls wait for an answer already", maxWaiting)
)

// A link is the client, once there is one: rueidis makes none while the server is down, and
// mends itself what breaks afterwards. The zero value is ready for dial.
type link struct {
	closing chan struct{}
	waiting atomic.Int64 // calls that are not answered

	mu     sync.Mutex
	client rueidis.Client // nil until connected
	err    error          // why there is none
}

// dial tries to connect until it has, or the link is closed. It returns when the first try
// ended or ctx did.
func (l *link) dial(ctx context.Context, option rueidis.ClientOption) {
	l.closing = make(chan struct{})
	l.err = errors.New("not connected yet")
	tried := make(chan struct{})
	go func() {
		for wait := retryFirst; !l.try(option); wait = min(2*wait, retryLast) {
			if wait == retryFirst {
				close(tried)
			}
			select {
			case <-l.closing:
				return
			case <-time.After(wait):
			}
		}
		select {
		case <-tried:
		default:
			close(tried)
		}
	}()
	select {
	case <-tried:
	case <-ctx.Done():
	}
}

func (l *link) try(option rueidis.ClientOption) (done bool) {
	client, err := rueidis.NewClient(option)
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		if err == nil {
			client.Close()
		}
		return true
	default:
	}
	if err != nil {
		l.err = fmt.Errorf("not connected: %w", err)
		return false
	}
	l.client, l.err = client, nil
	return true
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return
	default:
	}
	close(l.closing)
	if l.client != nil {
		l.client.Close()
	}
	l.client, l.err = nil, errClosed
}

// connected returns the client, or why there is none.
func (l *link) connected() (rueidis.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client, l.err
}

// do makes one call, and waits for its answer until ctx ends. The call goes on without ctx, for
// rueidis does not look at it while another caller dials, or while too much is under way on a
// connection that is stuck; it is over when the server answers or the connection breaks. Where
// maxWaiting calls are under way, do returns errBusy at once.
func (l *link) do(ctx context.Context, call func(context.Context, rueidis.Client) rueidis.RedisResult) rueidis.RedisResult {
	client, err := l.connected()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	if l.waiting.Add(1) > maxWaiting {
		l.waiting.Add(-1)
		return rueidis.NewErrorResult(errBusy)
	}
	answer := make(chan rueidis.RedisResult, 1)
	go func() {
		defer l.waiting.Add(-1)
		answer <- call(detached{ctx}, client) //nolint:contextcheck // it wraps ctx
	}()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return rueidis.NewErrorResult(ctx.Err())
	}
}

// A detached context ends no call that is under way, and no attempt to connect, which others
// wait for too; but once its parent has ended, nothing is tried again.
type detached struct{ context.Context } //nolint:containedctx // it is one

func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (detached) Done() <-chan struct{}       { return nil }

// get returns what GET answers.
func (l *link) get(ctx context.Context, name string) rueidis.RedisResult {
	return l.do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Get().Key(name).Build())
	})
}
