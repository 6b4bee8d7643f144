package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProfilesAreAskedFor(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		admin := newAdminServer(&adminHandlers{metrics: http.NotFoundHandler(), profiles: func() bool { return wanted }}).Handler
		for _, path := range []string{"", "heap", "goroutine?debug=1", "cmdline", "profile?seconds=1", "symbol"} {
			w := httptest.NewRecorder()
			admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/"+path, http.NoBody))
			if served := w.Code == http.StatusOK; served != (wanted && path != "cmdline") {
				t.Errorf("pprof: %t: /debug/pprof/%s has status %d", wanted, path, w.Code)
			}
		}
	}
}
