// Package envoy implements Envoy's external authorization protocol (envoy.service.auth.v3): it
// reads a check request into [check.Attributes], and writes the [check.Outcome] as the response
// that lets the request through or refuses it. Package check decides on the request.
package envoy

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"extauthz/check"
)

// A Server is the gRPC service that Envoy's ext_authz filter calls. Create one with [New]. It is
// safe for concurrent use. Its zero value refuses every request.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	current atomic.Pointer[settings] // replaced, never modified
}

// settings are the arguments of [Server.Set].
type settings struct {
	checker        *check.Checker
	keepPath       bool
	maxMessageSize int
}

// An Option changes how a [Server] answers.
type Option func(*settings)

// KeepPath removes secrets from the query by query_parameters_to_remove, with which Envoy also
// sorts the other parameters, in place of setting :path. It is for an Envoy whose
// decoder_header_mutation_rules do not allow :path, and which ignores it.
func KeepPath() Option { return func(s *settings) { s.keepPath = true } }

// MaxMessageSize denies check requests of more than n bytes unread. Without it there is no limit.
func MaxMessageSize(n int) Option { return func(s *settings) { s.maxMessageSize = n } }

// New returns a Server that answers as the checker decides.
func New(checker *check.Checker, options ...Option) *Server {
	s := new(Server)
	s.Set(checker, options...)
	return s
}

// Set replaces the checker and the options for requests that arrive from now on.
func (s *Server) Set(checker *check.Checker, options ...Option) {
	next := &settings{checker: checker, maxMessageSize: math.MaxInt32}
	for _, set := range options {
		set(next)
	}
	s.current.Store(next)
}

// Register adds the service to a gRPC server that was made with [Server.ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&serviceDesc, s)
}

// Check answers one check request, in the generated types. It always returns a response, and never
// an error: Envoy treats any RPC error as a failure of the service, even one that means a refusal.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (resp *authv3.CheckResponse, _ error) {
	defer func() {
		if recover() != nil { // no checker, or a mistake in this package
			var o check.Outcome
			o.Deny()
			resp = response(&o)
		}
	}()
	c := calls.Get().(*call)
	defer c.release()
	c.read(req)
	s.check(ctx, c)
	return response(&c.outcome), nil
}

// check sets the outcome of the call.
func (s *Server) check(ctx context.Context, c *call) {
	now := s.current.Load()
	now.checker.Check(ctx, &c.Attributes, &c.outcome)
	if now.keepPath {
		c.outcome.Path = ""
	}
}

// A call is one check in progress.
type call struct {
	attributes
	unread  error // why the request could not be read
	reader  checkReader
	outcome check.Outcome
	encoded []byte // memory for the encoded reply
}

var calls = sync.Pool{New: func() any { return new(call) }}

// release clears the call, including its secret, but keeps the memory of its slices for the next.
func (c *call) release() {
	c.Reset()
	c.outcome.Reset()
	c.unread = nil
	calls.Put(c)
}
