package envoymodule

import (
	"net/netip"
	"strings"
	"sync"

	"extauthz/check"
)

// A Call is one request under way. Get one from [NewCall], fill it, and release it.
type Call struct {
	check.Attributes

	// Reply is the answer, once there is one. It shares memory with the call.
	Reply Reply

	outcome check.Outcome
}

var calls = sync.Pool{New: func() any { return new(Call) }}

// NewCall returns an empty call.
func NewCall() *Call { return calls.Get().(*Call) }

// Release forgets the call, secret and all. It must not be used afterwards.
func (c *Call) Release() {
	c.Reset()
	c.outcome.Reset()
	c.Reply.reset()
	calls.Put(c)
}

// AddHeader adds a header of the request, in Envoy's order. The strings may share memory with Envoy until
// Check returns, and may hold any bytes.
func (c *Call) AddHeader(name, value string) {
	name, clean := check.CleanUTF8(name), check.CleanUTF8(value)
	if strings.HasPrefix(name, ":") {
		switch name {
		case ":method":
			c.Method = clean
		case ":path":
			c.Path, c.PathCleaned = clean, clean != value
		case ":authority":
			c.Host = clean
		case ":scheme":
			c.Scheme = clean
		}
	}
	c.Headers = append(c.Headers, check.Field{Name: name, Value: clean})
}

// SetPeer sets the address of the connection's remote end, as Envoy writes it: with a port, or the name
// of what has no address, such as a unix socket.
func (c *Call) SetPeer(address string) {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		host := address[:i]
		if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
			c.Peer = host[1 : n-1]
			return
		}
		if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
			c.Peer = host
			return
		}
	}
	if _, err := netip.ParseAddr(address); err == nil {
		c.Peer = address
	}
}

// SetRoute sets what the route requires; nil for nothing.
func (c *Call) SetRoute(r *Route) {
	if r != nil {
		c.Extensions = append(c.Extensions, r.extensions...)
	}
}

// clone returns a call with the same request, and memory of its own.
func (c *Call) clone() *Call {
	own := NewCall()
	headers, extensions := own.Headers, own.Extensions
	own.Attributes = c.Attributes
	for _, s := range []*string{&own.ID, &own.Peer, &own.Method, &own.Path, &own.Host, &own.Scheme} {
		*s = strings.Clone(*s)
	}
	own.Headers, own.Extensions = headers, append(extensions, c.Extensions...)
	for _, h := range c.Headers {
		own.Headers = append(own.Headers, check.Field{Name: strings.Clone(h.Name), Value: strings.Clone(h.Value)})
	}
	return own
}

// answer sets the reply to the outcome.
func (c *Call) answer() { c.Reply.set(&c.outcome) }

// refuse sets the reply to that of a request on which nothing could be decided.
func (c *Call) refuse() {
	c.outcome.Reset()
	c.Reply.set(&c.outcome)
}
