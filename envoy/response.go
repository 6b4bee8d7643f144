package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"extauthz/authz"
)

// response returns the reply as the generated type. It is the only place where one is made:
// Envoy takes a response without a status for one that allows.
func (r *reply) response() *authv3.CheckResponse {
	resp := &authv3.CheckResponse{DynamicMetadata: r.metadata()}
	if r.allows() {
		resp.Status = new(statuspb.Status)
		resp.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:                 headerOptions(r.headers),
			HeadersToRemove:         slices.Clone(r.remove), // r is used again
			QueryParametersToRemove: slices.Clone(r.dropQuery),
			ResponseHeadersToAdd:    overwriting(headerOptions(r.onResponse)),
		}}
		return resp
	}
	resp.Status = &statuspb.Status{Code: int32(refusals[r.code].rpc)} //nolint:gosec // 0 to 16
	refusal := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(r.httpStatus())}, //nolint:gosec // 400 to 599
		Headers: headerOptions(r.headers),
		Body:    string(r.appendBody(nil)),
	}
	if r.code == authz.Unavailable {
		// Not a denial: Envoy's failure_mode_allow decides what comes of it.
		resp.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: refusal}
	} else {
		resp.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: refusal}
	}
	return resp
}

// metadata returns what Envoy puts under envoy.filters.http.ext_authz, for its access log and
// the filters after it. Only what is known is in it.
func (r *reply) metadata() *structpb.Struct {
	fields := make(map[string]*structpb.Value, 5)
	for _, f := range r.metadataFields() {
		if f.value != "" {
			fields[f.name] = structpb.NewStringValue(f.value)
		}
	}
	return &structpb.Struct{Fields: fields}
}

func (r *reply) metadataFields() [5]field {
	dryRun := ""
	if r.dryRun {
		dryRun = "true"
	}
	return [...]field{
		{"code", r.code.String()},
		{"key_id", r.keyID},
		{"external_id", r.externalID},
		{"client_address", r.clientAddr},
		{"dry_run", dryRun},
	}
}

// overwriting says so in the way that Envoy heeds on responses, where leaving it unset appends.
func overwriting(options []*corev3.HeaderValueOption) []*corev3.HeaderValueOption {
	for _, o := range options {
		o.AppendAction = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	}
	return options
}

// headerOptions returns headers that overwrite on requests: append is left unset.
func headerOptions(headers []field) []*corev3.HeaderValueOption {
	options := make([]*corev3.HeaderValueOption, len(headers))
	for i, h := range headers {
		options[i] = &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.name, Value: h.value}}
	}
	return options
}
