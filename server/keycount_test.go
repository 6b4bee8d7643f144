package server

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/config"
	"extauthz/keystore/storetest"
	"extauthz/proctest"
)

// scrape returns the metrics of the server.
func scrape(t *testing.T, s *server) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.metrics.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	return w.Body.String()
}

// The gauges follow changes of the keys and the time, and keep the last counts while the store is unavailable.
func TestKeyCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &proctest.Buffer{}
		s := testServer(t, &config.Config{Log: config.Log{Format: "text"}}, log)
		store := storetest.NewMemory(storetest.RotatedKey("key_a"))
		c := newKeyCount(s.log)
		s.metrics.registry.MustRegister(c)
		if text := scrape(t, s); strings.Contains(text, "extauthz_keys_") {
			t.Errorf("counts before anything was counted:\n%s", text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go c.run(ctx, store)
		shows := func(want ...string) {
			t.Helper()
			synctest.Wait()
			text := scrape(t, s)
			for _, line := range want {
				if !strings.Contains(text, line+"\n") {
					t.Errorf("no %s in the metrics", line)
				}
			}
		}
		c.recount()
		shows("extauthz_keys_report_mode 1", `extauthz_keys_expiring{within="7d"} 0`, `extauthz_keys_expiring{within="30d"} 0`)

		k := storetest.NewKey("key_b")
		k.Expires = time.Now().Add(8 * 24 * time.Hour)
		if err := store.Add(ctx, k); err != nil {
			t.Fatal(err)
		}
		c.recount()
		c.recount()
		time.Sleep(countGap)
		shows(`extauthz_keys_expiring{within="7d"} 0`, `extauthz_keys_expiring{within="30d"} 1`)
		time.Sleep(24*time.Hour + countEvery) // nothing changes but the time
		shows(`extauthz_keys_expiring{within="7d"} 1`, `extauthz_keys_expiring{within="30d"} 1`)

		store.Fail(errors.New("down"))
		time.Sleep(3 * (countEvery + countGap))
		shows("extauthz_keys_report_mode 1")
		if n := strings.Count(log.String(), "cannot be counted"); n != 1 {
			t.Errorf("%d lines about the failure, want 1:\n%s", n, log)
		}
		cancel()
		synctest.Wait()
	})
}
