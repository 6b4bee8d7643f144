// Package redisclient connects to Redis 7 or Valkey: one server, one behind sentinels, or a
// cluster.
package redisclient

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
	writeTimeout = 3 * time.Second // also how long to wait for a silent connection

	retryFirst = 100 * time.Millisecond
	retryLast  = time.Second

	// maxWaiting is how many calls may wait for a Redis that does not answer. It is about the
	// capacity of the connections.
	maxWaiting = 4096
)

// ErrBusy means that a call was not made, because too many are waiting for an answer.
var ErrBusy = fmt.Errorf("%d calls are already waiting for an answer", maxWaiting)

var errClosed = errors.New("the connection is closed")

// A Client is a client of Redis. It connects in the background, and reconnects when the connection
// breaks. Create one with [Connect]. It is safe for concurrent use. Its errors contain no password.
type Client struct {
	closing chan struct{}
	waiting atomic.Int64 // calls that are not answered

	mu     sync.Mutex
	client rueidis.Client // nil until connected: rueidis creates none while the server is down
	err    error          // why client is nil
}

// Connect returns a client of the Redis with this URL. It returns when the first attempt to connect
// or ctx has ended. An error means that the URL is invalid, not that the server is down. The client
// must be closed. The URL is one of
//
//	redis://[user:password@]host[:6379][/db]        one server
//	redis://…@host:6379,host2:6379,host3:6379       a cluster; one host is enough to find it
//	redis://…@host:26379,host2:26379?master_set=NAME  sentinels; [/db]
//	unix:///run/redis/redis.sock[?db=N]             a unix socket
//
// rediss:// is the same over TLS; valkey:// and valkeys:// are other names for the two.
// Characters of a password that are not letters or digits are percent-encoded. Parameters:
//
//	sentinel_username, sentinel_password   for the sentinels; the user is the server's
//	ca_file, cert_file, key_file           PEM: the authorities, our certificate and its key; read
//	                                       again for each new connection
//	server_name                            the name in the server's certificate; the host by default
//	skip_verify=true                       accepts any certificate: for tests
//	dial_timeout, write_timeout            such as 2s, which is the default of the first; 3s
//	client_name                            in CLIENT LIST; extauthz by default
func Connect(ctx context.Context, url string) (*Client, error) {
	option, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	c := &Client{closing: make(chan struct{}), err: errors.New("not connected yet")}
	first := make(chan struct{})
	attempted := sync.OnceFunc(func() { close(first) })
	go func() {
		defer attempted()
		for wait := retryFirst; !c.attempt(option); wait = min(2*wait, retryLast) {
			attempted()
			select {
			case <-c.closing:
				return
			case <-time.After(wait):
			}
		}
	}()
	select {
	case <-first:
	case <-ctx.Done():
	}
	return c, nil
}

// attempt tries to connect, and reports whether no further attempt is needed: rueidis itself
// reconnects afterwards.
func (c *Client) attempt(option rueidis.ClientOption) (done bool) {
	client, err := rueidis.NewClient(option)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closing:
		if err == nil {
			client.Close()
		}
		return true
	default:
	}
	if err != nil {
		c.err = fmt.Errorf("not connected: %w", err)
		return false
	}
	c.client, c.err = client, nil
	return true
}

// Close ends all connections. Calls in progress and later ones fail.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closing:
		return
	default:
	}
	close(c.closing)
	if c.client != nil {
		c.client.Close()
	}
	c.client, c.err = nil, errClosed
}

// Connected returns the underlying client, or an error if it is not connected yet. It is for
// dedicated connections; use [Client.Do] for calls.
func (c *Client) Connected() (rueidis.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.err
}

// Do makes one call, in another goroutine, and waits for its answer until ctx ends. The call gets a
// context without that end, because rueidis ignores it while another caller dials, or while too many
// calls wait on a hanging connection. The call ends when the server answers or the connection
// breaks. If too many calls are in progress, Do returns [ErrBusy] at once.
func (c *Client) Do(ctx context.Context, call func(context.Context, rueidis.Client) rueidis.RedisResult) rueidis.RedisResult {
	client, err := c.Connected()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	if c.waiting.Add(1) > maxWaiting {
		c.waiting.Add(-1)
		return rueidis.NewErrorResult(ErrBusy)
	}
	answer := make(chan rueidis.RedisResult, 1)
	go func() {
		defer c.waiting.Add(-1)
		answer <- call(detached{ctx}, client) //nolint:contextcheck // it wraps ctx
	}()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return rueidis.NewErrorResult(ctx.Err())
	}
}

// Get returns the reply to GET.
func (c *Client) Get(ctx context.Context, name string) rueidis.RedisResult {
	return c.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Get().Key(name).Build())
	})
}

// A detached context ends neither a call in progress nor an attempt to connect, for which others
// may wait too. But once its parent has ended, nothing is retried.
type detached struct{ context.Context } //nolint:containedctx // it is one

func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (detached) Done() <-chan struct{}       { return nil }
