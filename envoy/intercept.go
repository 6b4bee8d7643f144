package envoy

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// An intercepted is a check request in the generated type, for a gRPC server with an interceptor.
type intercepted struct {
	request *authv3.CheckRequest // nil if the message could not be read
	unread  error                // the reason
}

// read unmarshals with the generated code if that accepts the message, and otherwise only the
// parts that a decision uses.
func (i *intercepted) read(generated encoding.CodecV2, data mem.BufferSlice) error {
	request := new(authv3.CheckRequest)
	if generated.Unmarshal(data, request) == nil {
		i.request = request
		return nil
	}
	var a attributes
	if err := new(checkReader).read(data, &a); err != nil {
		return err
	}
	i.request = a.generated()
	return nil
}

// intercept calls the interceptor around the check. It denies a message that cannot be read
// without calling the interceptor.
func (s *Server) intercept(ctx context.Context, c *call, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	var in intercepted
	if err := decode(&in); err != nil {
		return nil, err
	}
	if c.unread = in.unread; in.request == nil {
		return encoded(s.answer(ctx, c)), nil
	}
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: authv3.Authorization_Check_FullMethodName}
	return interceptor(ctx, in.request, info, func(ctx context.Context, req any) (any, error) {
		return s.Check(ctx, req.(*authv3.CheckRequest))
	})
}

// generated converts a to the generated type.
func (a *attributes) generated() *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Method: a.Method, Path: a.Path, Host: a.Host, Scheme: a.Scheme, HeaderMap: new(corev3.HeaderMap),
	}
	for _, h := range a.Headers {
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h.Name, Value: h.Value})
	}
	context := &authv3.AttributeContext{
		Source:            &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: a.Peer}}}},
		Request:           &authv3.AttributeContext_Request{Http: http},
		ContextExtensions: make(map[string]string, len(a.Extensions)),
	}
	for _, e := range a.Extensions {
		context.ContextExtensions[e.Name] = e.Value
	}
	return &authv3.CheckRequest{Attributes: context}
}
