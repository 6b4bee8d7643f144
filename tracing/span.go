package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/ratelimit"
	"extauthz/traceparent"
)

// End ends the span of a check, if ctx has one. No attribute holds a secret, a query or, unless
// Config.Addresses is set, an address of a client. The trace that the caller names in its own request
// becomes a link, and not the parent, because the caller chose it. End retains no part of o.
func (t *Tracer) End(ctx context.Context, o *check.Observation) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	d := &o.Decision
	attributes := make([]attribute.KeyValue, 0, 16)
	text := func(name, value string) {
		if value != "" {
			attributes = append(attributes, attribute.String(name, strings.Clone(strings.ToValidUTF8(value, "!")))) // the memory of o is reused
		}
	}
	attributes = append(attributes, attribute.String("extauthz.code", d.Code.String()), attribute.Bool("extauthz.allowed", d.Code.Allowed() || o.LetThrough))
	if d.Key != nil {
		text("extauthz.key_id", d.Key.ID)
		text("extauthz.owner", d.Key.ExternalID)
		attributes = append(attributes, attribute.Bool("extauthz.stale", d.Stale))
	}
	if o.LetThrough {
		attributes = append(attributes, attribute.Bool("extauthz.dry_run", true))
	}
	if d.WouldRefuse {
		text("extauthz.would_refuse", authz.Forbidden.String())
	}
	text("extauthz.client_address_from", o.AddrFrom)
	text("extauthz.request_id", o.RequestID)
	text("extauthz.permissions", o.Permissions)
	text("extauthz.ratelimits", o.Ratelimits)
	text("http.request.method", o.Method)
	text("server.address", o.Host)
	text("url.path", o.Path)
	if t.addresses {
		if o.ClientAddr.IsValid() {
			text("client.address", o.ClientAddr.String())
		}
		text("network.peer.address", o.Peer)
	}
	span.SetAttributes(attributes...)
	if o.Err != nil {
		t.fail(span, o.Err)
	}
	if caller := traceparent.Parse(o.TraceParent); caller.TraceID != "" {
		span.AddLink(trace.Link{SpanContext: spanContext(caller, "")})
	}
	span.End()
}

// fail marks a span as failed. The text of an error may name an address.
func (t *Tracer) fail(span trace.Span, err error) {
	description := ""
	if t.addresses {
		description = err.Error()
	}
	span.SetStatus(codes.Error, description)
}

// Lookup begins the span of a lookup in the store, if ctx has the span of a check, and returns a function that
// ends it; otherwise nil.
func Lookup(ctx context.Context) func(error) {
	span := child(ctx, "store look-up")
	if span == nil {
		return nil
	}
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Limits returns a limiter that adds spans to l's charges in checks that have a span.
func Limits(l ratelimit.Limiter) ratelimit.Limiter { return limiter{l} }

type limiter struct{ ratelimit.Limiter }

// Take implements [ratelimit.Limiter].
func (l limiter) Take(ctx context.Context, s ratelimit.Subject, charges []ratelimit.Charge) (ratelimit.Result, error) {
	span := child(ctx, "rate limits")
	if span == nil {
		return l.Limiter.Take(ctx, s, charges)
	}
	defer span.End()
	result, err := l.Limiter.Take(ctx, s, charges)
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.SetAttributes(attribute.Int("extauthz.limits", len(charges)), attribute.Bool("extauthz.limited", err == nil && result.Limited()))
	return result, err
}

// child begins a span within that of the check; nil if it has none.
func child(ctx context.Context, name string) trace.Span {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return nil
	}
	_, span := parent.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	return span
}
