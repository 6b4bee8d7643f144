// Package envoy speaks Envoy's external authorization protocol (envoy.service.auth.v3): it
// reads a check request into [check.Attributes], and writes the [check.Outcome] as the reply
// that lets the request through or refuses it. What becomes of a request is package check's.
package envoy

import (
	"context"
	"sync"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"extauthz/check"
)

// A Server is the gRPC service that Envoy's ext_authz filter calls. Make one with [New]; it
// is safe for concurrent use. Its zero value refuses every request.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	checker  *check.Checker
	keepPath bool
}

// An Option changes how a [Server] answers.
type Option func(*Server)

// KeepPath removes secrets from the query by query_parameters_to_remove, with which Envoy also
// sorts the other parameters, in place of setting :path. It is for an Envoy whose
// decoder_header_mutation_rules do not allow :path, and which ignores it.
func KeepPath() Option { return func(s *Server) { s.keepPath = true } }

// New returns a Server that answers as the checker decides.
func New(checker *check.Checker, options ...Option) *Server {
	s := &Server{checker: checker}
	for _, set := range options {
		set(s)
	}
	return s
}

// Register adds the service to a gRPC server that was made with [Server.ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&serviceDesc, s)
}

// Check answers one check request, in the generated types. It always returns a response, and never an error: Envoy
// would take any RPC error for a failure of the service, even one that means to refuse.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (resp *authv3.CheckResponse, _ error) {
	defer func() {
		if recover() != nil { // a nil checker
			resp = response(new(check.Outcome))
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
	s.checker.Check(ctx, &c.Attributes, &c.outcome)
	if s.keepPath {
		c.outcome.Path = ""
	}
}

// A call is one check under way.
type call struct {
	attributes
	unread  error // why the request could not be read
	reader  checkReader
	outcome check.Outcome
	encoded []byte // memory for the encoded reply
}

var calls = sync.Pool{New: func() any { return new(call) }}

// release forgets the call, secret and all, but keeps its slices' memory for the next.
func (c *call) release() {
	c.Reset()
	c.outcome.Reset()
	c.unread = nil
	calls.Put(c)
}
