package harness

import (
	"net"
	"slices"
	"sync"
	"testing"

	"extauthz/examples/upstream/echo"
)

// An Upstream answers every request with an [echo.Request] in JSON that describes it, over HTTP/1.1 and
// HTTP/2 without TLS, and records it.
type Upstream struct {
	Addr string // host:port

	mu   sync.Mutex
	seen []echo.Request
}

// StartUpstream starts an upstream on a free port, until the test ends.
func StartUpstream(t testing.TB) *Upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start the upstream: %v", err)
	}
	u := &Upstream{Addr: listener.Addr().String()}
	server := echo.Server(u.keep)
	go func() { _ = server.Serve(listener) }() // ends with the listener
	t.Cleanup(func() { _ = server.Close() })
	return u
}

func (u *Upstream) keep(r echo.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, r)
}

// Seen returns every request that reached the upstream since the last call of Forget.
func (u *Upstream) Seen() []echo.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

// Forget clears the recorded requests.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = nil
}
