package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// A Proxy forwards TCP connections until it is cut. It is safe for concurrent use.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	isCut  bool
	silent bool
	mended *sync.Cond
	conns  []net.Conn
}

// StartProxy starts a proxy in front of the address, which ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target}
	p.mended = sync.NewCond(&p.mu)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); p.Cut(false) })
	return p
}

// Addr returns the proxy's address.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) serve(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isCut && !p.silent {
		_ = c.Close()
		return
	}
	up, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		_ = c.Close()
		return
	}
	p.conns = append(p.conns, c, up)
	go p.pass(c, up)
	go p.pass(up, c)
}

// pass copies until one side closes; while the proxy is cut, it forwards nothing.
func (p *Proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.isCut && p.silent {
			p.mended.Wait()
		}
		p.mu.Unlock()
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// Cut closes every connection and refuses new ones, or leaves all open and silent.
func (p *Proxy) Cut(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut, p.silent = true, silent
	if !silent {
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mended.Broadcast()
	}
}

// Mend reverses Cut. Silent connections work again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = false
	p.mended.Broadcast()
}
