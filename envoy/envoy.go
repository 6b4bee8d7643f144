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

	checker *check.Checker
}

// New returns a Server that answers as the checker decides.
func New(checker *check.Checker) *Server { return &Server{checker: checker} }

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
	s.checker.Check(ctx, &c.Attributes, &c.outcome)
	return response(&c.outcome), nil
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
