package redis

import (
	"net"
	"sync"
	"testing"
)

// A proxy passes TCP connections on until it is cut.
type proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	isCut  bool
	silent bool
	mended *sync.Cond
	conns  []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, target: target}
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
	t.Cleanup(func() { _ = l.Close(); p.cut(false) })
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isCut && !p.silent {
		_ = c.Close()
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = c.Close()
		return
	}
	p.conns = append(p.conns, c, up)
	go p.pass(c, up)
	go p.pass(up, c)
}

// pass copies until an end closes; while the proxy is cut it holds everything back.
func (p *proxy) pass(from, to net.Conn) {
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

// cut closes every connection, or leaves them open and silent.
func (p *proxy) cut(silent bool) {
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

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = false
	p.mended.Broadcast()
}
