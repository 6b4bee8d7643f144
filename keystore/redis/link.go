package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	dialTimeout  = 2 * time.Second
	writeTimeout = 3 * time.Second // also how long a silent connection is waited for

	retryFirst = 100 * time.Millisecond
	retryLast  = time.Second
)

var errClosed = errors.New("the store is closed")

// A link is the client, once there is one: rueidis makes none while the server is down, and
// mends itself what breaks afterwards. The zero value is ready for dial.
type link struct {
	closing chan struct{}

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

// do asks for one thing, and waits until ctx ends: rueidis itself does not look at ctx while
// another caller dials, or while too much is under way on a connection that is stuck.
func (l *link) do(ctx context.Context, ask func(rueidis.Client) rueidis.RedisResult) rueidis.RedisResult {
	client, err := l.connected()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	answer := make(chan rueidis.RedisResult, 1)
	go func() { answer <- ask(client) }()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return rueidis.NewErrorResult(ctx.Err())
	}
}

// get returns what GET answers.
func (l *link) get(ctx context.Context, name string) rueidis.RedisResult {
	return l.do(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Get().Key(name).Build())
	})
}
