package postgres

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy is a TCP connection to the database that can be cut.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	mode  mode
	conns []net.Conn
}

type mode int

const (
	forward   mode = iota
	refuse         // every connection is closed
	blackhole      // connections stay open, and nothing is forwarded
)

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, target: target}
	t.Cleanup(func() { _ = l.Close(); p.set(refuse) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes the mode. Connections that were opened in a blackhole are closed when it ends.
func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode = m; m != blackhole {
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
	}
}

// track remembers a connection to close, and reports whether it may stay open.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == refuse {
		_ = c.Close()
		return false
	}
	p.conns = append(p.conns, c)
	return true
}

func (p *proxy) passes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode == forward
}

func (p *proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.track(server) {
		_ = client.Close()
		return
	}
	go p.copy(server, client)
	p.copy(client, server)
}

func (p *proxy) copy(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.passes() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}
