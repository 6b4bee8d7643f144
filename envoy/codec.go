package envoy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"extauthz/check"
)

// ErrTooLarge means that a check request is larger than the server accepts.
var ErrTooLarge = errors.New("the check request is too large")

// ServerOptions returns the options that the gRPC server must be created with. They do not affect
// other services on it, except that these accept messages of any size.
//
// gRPC's own limit must be off: it answers larger messages with an RPC error, and Envoy's
// failure_mode_allow lets those requests through.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec(s)),
		grpc.MaxRecvMsgSize(math.MaxInt32),
	}
}

// A codec is gRPC's proto codec, except that it unmarshals a CheckRequest into a *call or an
// *intercepted, and accepts a response that is already encoded.
type codec struct {
	encoding.CodecV2
	server *Server
}

func newCodec(s *Server) codec { return codec{encoding.GetCodecV2(encodingproto.Name), s} }

// Unmarshal never fails for a *call or an *intercepted, since gRPC would answer with an RPC error:
// it stores the error in them. It keeps no reference to data.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch into := v.(type) {
	case *call:
		if into.unread = c.checkSize(data); into.unread == nil {
			into.unread = into.reader.read(data, &into.attributes)
		}
	case *intercepted:
		if into.unread = c.checkSize(data); into.unread == nil {
			into.unread = into.read(c.CodecV2, data)
		}
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
	return nil
}

func (c codec) checkSize(data mem.BufferSlice) error {
	now := c.server.current.Load()
	if now == nil {
		return nil // the zero Server, which refuses all
	}
	if n := data.Len(); n > now.maxMessageSize {
		return fmt.Errorf("%w: %d bytes, more than grpc.max_message_size, %d", ErrTooLarge, n, now.maxMessageSize)
	}
	return nil
}

// Marshal returns an encoded response unchanged.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if reply, ok := v.(mem.BufferSlice); ok {
		return reply, nil
	}
	return c.CodecV2.Marshal(v)
}

// serviceDesc is the generated description of the service, with a handler for the codec.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}},
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
}

// handleCheck handles one RPC from bytes to bytes. Like Check, it answers every message with a
// response, even one that it cannot read. decode returns errors only for a lost connection or an
// expired deadline, when no client waits for the response.
func handleCheck(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (resp any, err error) { //nolint:revive // gRPC's order
	defer func() {
		if recover() != nil { // no checker, or a mistake in this package
			var o check.Outcome
			o.Deny()
			resp, err = encoded(appendResponse(nil, &o)), nil
		}
	}()
	c := calls.Get().(*call)
	defer c.release()
	s := srv.(*Server)
	if interceptor != nil {
		return s.intercept(ctx, c, decode, interceptor)
	}
	if err := decode(c); err != nil {
		return nil, err
	}
	return encoded(s.answer(ctx, c)), nil
}

func encoded(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }

// answer decides on the attributes of c and returns the encoded response.
func (s *Server) answer(ctx context.Context, c *call) []byte {
	if c.unread != nil {
		s.current.Load().checker.Refuse(ctx, c.unread, &c.outcome)
	} else {
		s.check(ctx, c)
	}
	c.encoded = appendResponse(c.encoded[:0], &c.outcome)
	return slices.Clone(c.encoded)
}
