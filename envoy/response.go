package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"extauthz/authz"
	"extauthz/check"
)

// rpcCodes are the check's own status for each code of a refusal. None is OK, which would allow.
var rpcCodes = [authz.Valid]codes.Code{
	authz.Unavailable:             codes.Unavailable,
	authz.MissingKey:              codes.Unauthenticated,
	authz.NotFound:                codes.Unauthenticated,
	authz.Disabled:                codes.Unauthenticated,
	authz.Expired:                 codes.Unauthenticated,
	authz.Forbidden:               codes.PermissionDenied,
	authz.InsufficientPermissions: codes.PermissionDenied,
	authz.RateLimited:             codes.ResourceExhausted,
}

// rpcCode returns the status of a refusal with this code. It is never OK.
func rpcCode(code authz.Code) codes.Code {
	if int(code) < len(rpcCodes) {
		return rpcCodes[code]
	}
	return codes.Unavailable
}

// response returns the outcome as the generated type; appendResponse writes the same to the
// wire. No other code makes a response: Envoy allows the request if a response has no status.
func response(o *check.Outcome) *authv3.CheckResponse {
	resp := &authv3.CheckResponse{DynamicMetadata: metadata(o)}
	if o.Allowed() {
		resp.Status = new(statuspb.Status)
		ok := &authv3.OkHttpResponse{
			Headers:              headerOptions(o.SetHeaders),
			HeadersToRemove:      slices.Clone(o.RemoveHeaders), // the memory of o is reused
			ResponseHeadersToAdd: overwriting(headerOptions(o.ResponseHeaders)),
		}
		if o.Path != "" {
			ok.Headers = append(ok.Headers, headerOptions([]field{{Name: pathHeader, Value: o.Path}})...)
		} else {
			ok.QueryParametersToRemove = slices.Clone(o.RemoveQuery)
		}
		resp.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
		return resp
	}
	resp.Status = &statuspb.Status{Code: int32(rpcCode(o.Code))} //nolint:gosec // 0 to 16
	refusal := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(o.Status())}, //nolint:gosec // 400 to 599
		Headers: headerOptions(o.ResponseHeaders),
		Body:    string(o.AppendBody(nil)),
	}
	if o.IsError() {
		// Not a denial: Envoy's failure_mode_allow decides whether the request goes on.
		resp.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: refusal}
	} else {
		resp.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: refusal}
	}
	return resp
}

// pathHeader sets the path. It is never combined with query_parameters_to_remove, with which Envoy
// sorts the parameters.
const pathHeader = ":path"

// metadata returns what Envoy puts under envoy.filters.http.ext_authz, for its access log and
// the filters after it.
func metadata(o *check.Outcome) *structpb.Struct {
	fields := make(map[string]*structpb.Value, 6)
	for _, f := range o.Metadata() {
		if f.Value != "" {
			fields[f.Name] = structpb.NewStringValue(f.Value)
		}
	}
	return &structpb.Struct{Fields: fields}
}

// overwriting sets the append_action that overwrites: on responses, leaving it unset appends.
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
		options[i] = &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.Name, Value: h.Value}}
	}
	return options
}
