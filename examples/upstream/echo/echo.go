// Package echo is an upstream that answers every request with what it was sent, so that one
// sees what a proxy let through, took away and added.
package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Request is what the upstream was sent, as its answer's JSON says it.
type Request struct {
	Protocol string `json:"protocol"` // HTTP/1.1 or HTTP/2.0
	Method   string `json:"method"`
	Host     string `json:"host"`
	Path     string `json:"path"` // with the query, as it was sent

	// Headers are all headers but Host, by their lower-case names; the values of a
	// repeated one stand apart and in their order.
	Headers map[string][]string `json:"headers"`

	Body string `json:"body,omitempty"`
}

const headerTimeout = 10 * time.Second

// maxBody is how much of a body is read, in bytes.
const maxBody = 1 << 20

// Read takes apart what a handler was given. It reads the body.
func Read(r *http.Request) (Request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return Request{}, err
	}
	headers := make(map[string][]string, len(r.Header))
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = values
	}
	return Request{
		Protocol: r.Proto, Method: r.Method, Host: r.Host, Path: r.RequestURI,
		Headers: headers, Body: string(body),
	}, nil
}

// Handler answers every request with its [Request], as JSON. Each one is given to seen before
// it is answered; seen may be nil, and is called from many goroutines.
func Handler(seen func(Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := Read(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if seen != nil {
			seen(request)
		}
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		_ = out.Encode(request) // the client has disconnected
	})
}

// Server returns a server of [Handler] that speaks HTTP/1.1 and, without TLS, HTTP/2.
func Server(seen func(Request)) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: Handler(seen), Protocols: protocols, ReadHeaderTimeout: headerTimeout}
}
