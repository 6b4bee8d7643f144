// Package redisclient connects to Redis 7 or Valkey: one server, one behind sentinels, or a
// cluster. What is kept there is the business of the packages that use it.
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
	writeTimeout = 3 * time.Second // also how long a silent connection is waited for

	retryFirst = 100 * time.Millisecond
	retryLast  = time.Second

	// maxWaiting is how many calls may wait for a Redis that does not answer; about as many as
	// fit into its connections.
	maxWaiting = 4096
)

// ErrBusy says that a call was not made, because as many as may be are waiting for an answer.
var ErrBusy = fmt.Errorf("%d calls wait for an answer already", maxWaiting)

var errClosed = errors.New("the connection is closed")

// A Client is a client of Redis. It connects by itself as soon as it can, and again when it must.
// Make one with [Connect]. It is safe for concurrent use. Its errors hold no password.
type Client struct {
	closing chan struct{}
	waiting atomic.Int64 // calls that are not answered

	mu     sync.Mutex
	client rueidis.Client // nil until connected: rueidis makes none while the server is down
	err    error          // why there is none
}

// Connect returns a client of the Redis that the URL names. It returns when the first attempt to
// connect ended or ctx did; an error says that the URL cannot be used, not that the server is
// down. The client must be closed. The URL is one of
//
//	redis://[user:password@]host[:6379][/db]        one server
//	redis://…@host:6379,host2:6379,host3:6379       a cluster; one host is enough to find it
//	redis://…@host:26379,host2:26379?master_set=NAME  sentinels; [/db]
//	unix:///run/redis/redis.sock[?db=N]             a unix socket
//
// rediss:// is the same over TLS; valkey:// and valkeys:// are other names for the two.
// What is not a letter or a digit in a password is percent-encoded. Parameters:
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

// attempt tries to connect, and reports whether that is done with: rueidis itself repairs what
// breaks afterwards.
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

// Close ends all connections. Calls that are under way fail, and so do later ones.
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

// Connected returns the client that calls go to, or why there is none yet. It is for connections
// of the caller's own; calls are made through [Client.Do].
func (c *Client) Connected() (rueidis.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.err
}

// Do makes one call, on another goroutine, and waits for its answer until ctx ends. The call gets
// a context without that end, for rueidis does not look at it while another caller dials, or while
// too much is under way on a connection that is stuck. It is over when the server answers or the
// connection breaks. Where too many calls are under way, Do returns [ErrBusy] at once.
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

// Get returns the answer of GET.
func (c *Client) Get(ctx context.Context, name string) rueidis.RedisResult {
	return c.Do(ctx, func(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
		return client.Do(ctx, client.B().Get().Key(name).Build())
	})
}

// A detached context ends no call that is under way, and no attempt to connect, which others
// wait for too; but once its parent has ended, nothing is tried again.
type detached struct{ context.Context } //nolint:containedctx // it is one

func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (detached) Done() <-chan struct{}       { return nil }
