package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
	"extauthz/proctest"
	"extauthz/traceparent"
)

// The first owners have their own series, and all decisions are counted.
func TestOwners(t *testing.T) {
	s := testServer(t, config.Default(), &proctest.Buffer{})
	decide := func(owner string, code authz.Code) {
		s.metrics.observe(&check.Observation{Decision: authz.Decision{Code: code, Key: &keystore.Key{ExternalID: owner}}}, traceparent.Parent{})
	}
	series := func() int { return strings.Count(scrape(t, s), "\nextauthz_owner_decisions_total{") }
	decide("acme", authz.Valid)
	if n := series(); n != 0 {
		t.Errorf("%d series by default", n)
	}
	s.metrics.owners.setLimit(2)
	for range 3 {
		decide("acme", authz.Valid)
	}
	decide("acme", authz.Forbidden)
	decide("other", authz.Forbidden) // has no series of its own
	decide("bad\xff", authz.Forbidden)
	decide("", authz.Forbidden) // has no owner
	s.metrics.observe(&check.Observation{Decision: authz.Decision{Code: authz.NotFound}}, traceparent.Parent{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				decide(fmt.Sprintf("owner %d", i), authz.Code(g+1))
			}
		})
	}
	wg.Wait()
	text := scrape(t, s)
	for _, want := range []string{
		`{code="VALID",owner="acme"} 3`, `{code="FORBIDDEN",owner="acme"} 1`, `{code="NOT_FOUND",owner="owner 0"} 1`, `{code="NOT_FOUND",owner="other"} 999`, `{code="FORBIDDEN",owner="other"} 2`,
	} {
		if !strings.Contains(text, "\nextauthz_owner_decisions_total"+want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := series(); n < 2 || n > 3*len(codeCounts{}) {
		t.Errorf("%d series", n)
	}
	key := &keystore.Key{ExternalID: "acme"}
	if n := testing.AllocsPerRun(100, func() { s.metrics.owners.observe(&authz.Decision{Code: authz.Valid, Key: key}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	s.metrics.owners.setLimit(2) // goes on
	if !strings.Contains(scrape(t, s), `{code="FORBIDDEN",owner="acme"} 1`) {
		t.Error("a reload without a change begins anew")
	}
	if s.metrics.owners.setLimit(0); series() != 0 {
		t.Error("0 is not off")
	}
}
