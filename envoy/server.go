package envoy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"extauthz/authz"
	"extauthz/keystore"
	"extauthz/ratelimit"
	"extauthz/route"
)

// A Server is the gRPC service that Envoy's ext_authz filter calls. Make one with [New]; it
// is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	authorizer Authorizer
	sources    []KeySource
	forwardKey bool
	address    AddressSource
	statuses   [len(refusals)]int
	challenge  string // the value of www-authenticate
	routes     *route.Table
	limits     ratelimit.HeaderStyle
	dryRun     bool
	unknown    unknownNames
	observe    func(context.Context, *Observation)
}

// New returns a Server that works as cfg says, or every error in cfg, joined.
func New(cfg Config) (*Server, error) {
	s := &Server{
		authorizer: cfg.Authorizer,
		sources:    slices.Clone(cfg.KeySources),
		forwardKey: cfg.ForwardKey,
		address:    cfg.ClientAddress,
		routes:     cfg.Routes,
		limits:     cfg.LimitHeaders,
		dryRun:     cfg.DryRun,
		unknown:    unknownNames{tell: cfg.UnknownExtension},
		observe:    cfg.Observe,
	}
	if len(s.sources) == 0 {
		s.sources = []KeySource{{Header: "x-api-key"}}
	}
	if s.address == nil {
		s.address = Peer()
	}
	var errs []error
	if s.authorizer == nil {
		errs = append(errs, errors.New("no Authorizer: nothing would decide"))
	}
	if err := s.address.validate(); err != nil {
		errs = append(errs, fmt.Errorf("client_address: %w", err))
	}
	errs = append(errs, s.prepareSources(), s.prepareStatuses(cfg.Statuses))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// prepareSources brings the key sources into the form in which they are compared.
func (s *Server) prepareSources() error {
	s.challenge = challenge(s.sources)
	var errs []error
	for i := range s.sources {
		k := &s.sources[i]
		if err := k.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("key_sources: entry %d: %w", i+1, err))
			continue
		}
		k.Header, k.Scheme = strings.ToLower(k.Header), strings.ToLower(k.Scheme)
		if j := slices.Index(s.sources[:i], *k); j >= 0 {
			errs = append(errs, fmt.Errorf("key_sources: entry %d is the same as entry %d: leave one out", i+1, j+1))
		}
	}
	return errors.Join(errs...)
}

func (s *Server) prepareStatuses(overrides map[authz.Code]int) error {
	for code, r := range refusals {
		s.statuses[code] = r.status
	}
	var errs []error
	for code, status := range overrides {
		switch {
		case int(code) >= len(refusals):
			errs = append(errs, fmt.Errorf("statuses: %s is not the code of a refusal, so it has no status: leave it out", code))
		case status < 400 || status > 599:
			errs = append(errs, fmt.Errorf("statuses: %s: %d does not refuse: write a status from 400 to 599", code, status))
		default:
			s.statuses[code] = status
		}
	}
	return errors.Join(errs...)
}

// Register adds the service to a gRPC server that was made with [Server.ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&serviceDesc, s)
}

// ServerOptions returns the options that the service needs of its gRPC server. Other services
// on it work as they would without.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ForceServerCodecV2(newCodec())}
}

// Check answers one check request, in the generated types. It always returns a response, and never an error: Envoy
// would take any RPC error for a failure of the service, even one that means to refuse.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (resp *authv3.CheckResponse, _ error) {
	defer func() {
		if recover() != nil { // only in what is done outside of decide, such as in Observe
			resp = new(reply).response()
		}
	}()
	c := calls.Get().(*call)
	defer c.release()
	c.read(req)
	s.handle(ctx, c)
	return c.reply.response(), nil
}

// A call is one check under way: what was asked, what is told of it, and the reply.
type call struct {
	attributes
	seen    Observation
	reply   reply
	encoded []byte // memory for the encoded reply
}

var calls = sync.Pool{New: func() any { return new(call) }}

// release forgets the call, secret and all, but keeps its slices' memory for the next.
func (c *call) release() {
	c.attributes.reset()
	c.reply.reset()
	c.seen = Observation{}
	calls.Put(c)
}

// handle decides on the attributes of c and leaves the reply in it.
func (s *Server) handle(ctx context.Context, c *call) {
	if s.observe == nil {
		s.decide(ctx, c)
		return
	}
	start := time.Now()
	s.decide(ctx, c)
	c.seen.Duration = time.Since(start)
	s.observe(ctx, &c.seen)
}

// decide fills in what was seen and the reply. Whatever panics in it, the reply refuses.
func (s *Server) decide(ctx context.Context, c *call) {
	o, source := &c.seen, -1
	defer func() {
		if p := recover(); p != nil {
			o.Decision, o.Err, o.Panicked = authz.Decision{}, panicError(p), true
			c.reply.reset()
			c.reply.answer(c, s, source)
		}
	}()
	id, _ := c.header("x-request-id")
	o.RequestID = clip(id, maxRequestID)
	o.Method, o.Host, o.Path = clip(c.method, 32), clip(c.host, 255), clip(barePath(c.path), 1024)
	o.ClientAddr, o.AddrFrom, o.AddrErr = s.address.find(&c.attributes)

	request := s.demands(&c.attributes)
	request.ClientAddr, o.RouteErr = o.ClientAddr, request.RouteErr
	var secret string
	secret, source = s.secret(&c.attributes)
	request.Secret = keystore.Secret(secret)
	o.Decision, o.Err = s.authorize(ctx, request)
	c.reply.answer(c, s, source)
}

var errNoKey = errors.New("the request was found valid, but without a secret or a key")

// authorize has the request decided. Only a decision that came without an error, with a key,
// and in time can allow.
func (s *Server) authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if err := ctx.Err(); err != nil {
		return authz.Decision{}, err
	}
	d, err := s.authorizer.Authorize(ctx, r)
	if err == nil && d.Code.Allowed() && (d.Key == nil || r.Secret == "") {
		err = errNoKey
	}
	if err != nil {
		d.Code = authz.Unavailable
	}
	return d, err
}
