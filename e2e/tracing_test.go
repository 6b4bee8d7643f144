package e2e_test

import (
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/tracing/otlptest"
)

// Envoy and extauthz export to one collector, and the span of Envoy's ext_authz call is the parent of ours.
func TestTraceThroughEnvoy(t *testing.T) {
	t.Parallel()
	collector, upstream := otlptest.Start(t), harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "shutdown: {drain: 0s}\ntracing: {endpoint: \"" + collector.GRPC + "\"}\n"})
	with := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Collector: strings.TrimPrefix(collector.GRPC, "http://"), Sampled: 100}
	front := with.start(t).Addr("front")
	const callerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	if r := send(t, front, call{header: headers("X-Api-Key", string(open))}); r.status != 200 {
		t.Fatal(r.status, r.body)
	}
	send(t, front, call{header: headers("X-Api-Key", string(elsewhere), "Traceparent", "00-"+callerTrace+"-00f067aa0ba902b7-01")}).wantRefusal(t, 403, "FORBIDDEN", "key_elsewhere")

	of := func(service string) map[string]otlptest.Span { // by id
		spans := make(map[string]otlptest.Span)
		for _, s := range collector.Spans() {
			if s.Service == service {
				spans[s.ID] = s
			}
		}
		return spans
	}
	polltest.Until(t, "the spans of both", func() bool { return len(collector.Named("check")) == 2 && len(of("envoy")) >= 4 })
	for _, c := range collector.Named("check") {
		parent, ok := of("envoy")[c.ParentID]
		if !ok || parent.TraceID != c.TraceID || !strings.Contains(parent.Name, "envoy.service.auth.v3.Authorization") || c.Start < parent.Start {
			t.Errorf("%+v\nhas the parent %+v", c, parent)
		}
		if refused := c.Attributes["extauthz.code"] == "FORBIDDEN"; refused != (len(c.Links) == 1 && c.Links[0] == callerTrace) {
			t.Errorf("the links are %v", c.Links)
		}
		t.Logf("%s: %s < %s < %s", c.Attributes["extauthz.code"], c.Name, parent.Name, of("envoy")[parent.ParentID].Name)
	}

	// A check in a trace that Envoy does not record has no span, whatever the caller sends.
	with.Sampled = 0
	front = with.start(t).Addr("front")
	send(t, front, call{header: headers("X-Api-Key", string(open))})
	send(t, front, call{header: headers("X-Api-Key", string(open), "Traceparent", "00-"+callerTrace+"-00f067aa0ba902b7-01")})
	if code := server.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := len(collector.Named("check")); n != 2 {
		t.Errorf("%d checks are traced, want 2", n)
	}
}
