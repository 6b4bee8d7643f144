package main

import (
	"context"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// policy finds the key by the hash of its secret and compares the address with its ranges.
const policy = `package keys_policy

default decision := {"allow": false}

key := data.keys[crypto.sha256(input.secret)]

decision := {"allow": true, "id": key.id} if {
	some range in key.ip_whitelist
	net.cidr_contains(range, input.address)
}
`

// opa is a typical use of OPA's Go library: the query is prepared once, and the keys are in its store
// as values that need no conversion when they are read.
type opa struct {
	authv3.UnimplementedAuthorizationServer

	query rego.PreparedEvalQuery
}

func newOPA(keyFile string) (authv3.AuthorizationServer, error) {
	records, err := readRecords(keyFile)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]any, len(records))
	for _, r := range records {
		ranges := make([]any, len(r.Whitelist))
		for i, s := range r.Whitelist {
			ranges[i] = s
		}
		keys[r.Hash] = map[string]any{"id": r.ID, "ip_whitelist": ranges}
	}
	store := inmem.NewFromObjectWithOpts(map[string]any{"keys": keys}, inmem.OptReturnASTValuesOnRead(true))
	query, err := rego.New(rego.Query("data.keys_policy.decision"), rego.Module("keys.rego", policy), rego.Store(store)).PrepareForEval(context.Background())
	return &opa{query: query}, err
}

// Check decides.
func (o *opa) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	results, err := o.query.Eval(ctx, rego.EvalInput(map[string]any{
		"secret":  req.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-api-key"],
		"address": req.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(),
	}))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, fmt.Errorf("the policy gives %d results", len(results))
	}
	decision, _ := results[0].Expressions[0].Value.(map[string]any)
	if decision["allow"] != true {
		return deny(typev3.StatusCode_Unauthorized, "NOT_FOUND"), nil
	}
	id, _ := decision["id"].(string)
	return allow(id), nil
}
