package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/pprof" // served only with admin.pprof
	"sync/atomic"
	"time"
)

// A readiness records whether the server is ready for requests. The zero value is a server that is
// starting. It is safe for concurrent use.
type readiness struct {
	reason atomic.Pointer[string] // why it is not ready; "" if it is
}

func (r *readiness) set(reason string) { r.reason.Store(&reason) }

// why returns why the server is not ready, or "".
func (r *readiness) why() string {
	if p := r.reason.Load(); p != nil {
		return *p
	}
	return "starting: the keys are not loaded yet"
}

// readyStatus returns the HTTP status of /readyz.
func readyStatus(why string) int {
	if why != "" {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// adminHandlers are the handlers of the admin listener.
type adminHandlers struct {
	ready    *readiness
	verbose  func(w http.ResponseWriter, r *http.Request, why string) // /readyz?verbose
	metrics  http.Handler
	profiles func() bool // whether /debug/pprof is served
}

func (h *adminHandlers) readyz(w http.ResponseWriter, r *http.Request) {
	why := h.ready.why()
	if r.URL.Query().Has("verbose") {
		h.verbose(w, r, why)
		return
	}
	plain(w, readyStatus(why), cmp.Or(why, "ok"))
}

// newAdminServer returns the server of the admin listener: liveness, readiness, metrics and profiles.
func newAdminServer(h *adminHandlers) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", h.metrics)
	for path, handler := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "trace": pprof.Trace, "symbol": pprof.Symbol,
	} {
		mux.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			if !h.profiles() {
				http.NotFound(w, r)
				return
			}
			// A profile takes as long as the request specifies.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longestProfile))
			handler(w, r)
		})
	}
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

const longestProfile = 5 * time.Minute

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

// stopAdmin stops the server, and waits briefly for requests in progress.
func stopAdmin(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		_ = s.Close()
	}
}
