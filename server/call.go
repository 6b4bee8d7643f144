package server

import (
	"context"

	"google.golang.org/grpc/metadata"

	"extauthz/traceparent"
)

// metadataKey is the key under which a context holds the metadata of a gRPC call. Reading it there
// avoids that [metadata.ValueFromIncomingContext] copies the values, which would allocate in each check.
var metadataKey = func() any {
	var k keyOf
	metadata.ValueFromIncomingContext(&k, "")
	return k.key
}()

// A keyOf is a context that records the key of the last call of Value.
type keyOf struct {
	context.Context //nolint:containedctx // nil: only Value is called
	key             any
}

func (k *keyOf) Value(key any) any {
	k.key = key
	return nil
}

// metadataOf returns the metadata of a gRPC call, which must not be changed.
func metadataOf(ctx context.Context) metadata.MD {
	md, _ := ctx.Value(metadataKey).(metadata.MD)
	return md
}

// parentOf returns the span of Envoy's gRPC call, from the metadata of that call: never from the headers
// of the caller's request, which the caller chose.
func parentOf(ctx context.Context) traceparent.Parent {
	if values := metadataOf(ctx)["traceparent"]; len(values) == 1 {
		return traceparent.Parse(values[0])
	}
	return traceparent.Parent{}
}
