package envoy

import (
	"context"
	"slices"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"extauthz/check"
)

// A codec is gRPC's own for all messages but ours: it reads an encoded CheckRequest into a
// *call, and takes a reply that is encoded already.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encodingproto.Name)} }

// Unmarshal reads into a *call what it needs of a check request. It keeps nothing of data.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*call)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return into.readBytes(buffer.ReadOnlyData())
}

// Marshal returns an encoded reply as it is.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if reply, ok := v.(mem.BufferSlice); ok {
		return reply, nil
	}
	return c.CodecV2.Marshal(v)
}

// serviceDesc is the service as the generated code describes it, with the handler that works
// with our codec.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: authv3.Authorization_ServiceDesc.HandlerType,
	Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}},
	Metadata:    authv3.Authorization_ServiceDesc.Metadata,
}

// handleCheck answers one RPC from bytes to bytes. Like Check, it always has an answer to what
// could be read. Where an interceptor wants to see the messages, it is given the generated
// ones.
func handleCheck(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (resp any, err error) { //nolint:revive // gRPC's order
	if interceptor != nil {
		return authv3.Authorization_ServiceDesc.Methods[0].Handler(srv, ctx, decode, interceptor)
	}
	defer func() {
		if recover() != nil { // a nil checker
			resp, err = encoded(appendResponse(nil, new(check.Outcome))), nil
		}
	}()
	c := calls.Get().(*call)
	defer c.release()
	if err := decode(c); err != nil {
		return nil, err
	}
	return encoded(srv.(*Server).answer(ctx, c)), nil
}

func encoded(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }

// answer decides on the attributes of c and returns the encoded reply.
func (s *Server) answer(ctx context.Context, c *call) []byte {
	s.check(ctx, c)
	c.encoded = appendResponse(c.encoded[:0], &c.outcome)
	return slices.Clone(c.encoded)
}
