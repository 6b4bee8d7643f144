package keystore

import "context"

type actorKey struct{}

// WithActor returns a context that names who makes the changes that are made with it, for the
// trail of edits.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor returns who makes the changes that are made with ctx; empty if nobody said.
func Actor(ctx context.Context) string {
	actor, _ := ctx.Value(actorKey{}).(string)
	return actor
}
