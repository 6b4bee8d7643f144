package envoymodule

import "extauthz/check"

// A Reply is what Envoy's filter is to do. Its zero value refuses, without a body.
type Reply struct {
	Allowed bool

	// Set and Remove change the request that goes on. Set may name :path.
	Set    []check.Field
	Remove []string

	Status   int           // of the refusal; 0 if Allowed
	Response []check.Field // headers of the response: the upstream's if Allowed, and otherwise the refusal
	Body     []byte        // of the refusal
	Details  string        // of the refusal, for the access log
	Metadata []check.Field // dynamic metadata, in the namespace MetadataNamespace
}

// MetadataNamespace is where Envoy puts the dynamic metadata of an ext_authz filter: access logs need not
// be written again for the module.
const MetadataNamespace = "envoy.filters.http.ext_authz"

// What %RESPONSE_CODE_DETAILS% says of refusals, as with an ext_authz filter.
const (
	detailsDenied = "ext_authz_denied"
	detailsError  = "ext_authz_error"
)

func (r *Reply) set(o *check.Outcome) {
	r.reset()
	for _, f := range o.Metadata() {
		if f.Value != "" {
			r.Metadata = append(r.Metadata, f)
		}
	}
	r.Response = append(r.Response, o.ResponseHeaders...)
	if r.Allowed = o.Allowed(); !r.Allowed {
		r.Status, r.Details = o.Status(), detailsDenied
		if o.IsError() {
			r.Details = detailsError
		}
		r.Body = o.AppendBody(r.Body)
		if o.ForGRPC() {
			r.Response = append(r.Response, check.Field{Name: "grpc-status", Value: grpcStatus(r.Status)})
		}
		return
	}
	r.Set = append(r.Set, o.SetHeaders...)
	if o.Path != "" {
		r.Set = append(r.Set, check.Field{Name: ":path", Value: o.Path})
	}
	r.Remove = append(r.Remove, o.RemoveHeaders...)
}

// reset makes r the zero Reply, and keeps the memory of its slices.
func (r *Reply) reset() {
	set, remove, response, metadata := check.Emptied(r.Set), r.Remove, check.Emptied(r.Response), check.Emptied(r.Metadata)
	clear(remove)
	*r = Reply{Set: set, Remove: remove[:0], Response: response, Metadata: metadata, Body: r.Body[:0]}
}

// grpcStatus returns what Envoy's ext_authz filter makes of an HTTP status for gRPC callers. A module has to
// say it itself: what it sends is otherwise OK to them.
func grpcStatus(status int) string {
	switch status {
	case 400:
		return "13" // INTERNAL
	case 401:
		return "16" // UNAUTHENTICATED
	case 403:
		return "7" // PERMISSION_DENIED
	case 404:
		return "12" // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return "14" // UNAVAILABLE
	}
	return "2" // UNKNOWN
}
