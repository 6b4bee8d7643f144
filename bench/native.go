package main

import (
	"fmt"
	"strings"
)

// A rulesWriter writes the filter that restricts each key to its addresses.
type rulesWriter func(*strings.Builder, keySet)

// native returns Envoy's own filters for the keys: api_key_auth, which has the secrets in plain text,
// finds the key, and rbac restricts it to its addresses. The key with the number absent is omitted.
func native(s keySet, rules rulesWriter, absent int) string {
	var b strings.Builder
	b.WriteString(`        - name: envoy.filters.http.api_key_auth
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
            key_sources: [{header: x-api-key}]
            forwarding: {header: x-client-id, hide_credentials: true}
            credentials:
`)
	for i := range s.keys {
		if i != absent {
			fmt.Fprintf(&b, "            - {key: %s, client: key_%07d}\n", secret(i), i)
		}
	}
	b.WriteString(`        - name: envoy.filters.http.rbac
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
`)
	rules(&b, s)
	return b.String()
}

// cidrs returns a whitelist in Envoy's syntax, with each range in this format.
func cidrs(n int, format string) string {
	var list []string
	for _, r := range whitelist(n) {
		addr, bits, _ := strings.Cut(r, "/")
		list = append(list, fmt.Sprintf(format, addr, bits))
	}
	return strings.Join(list, ", ")
}

// rbacPolicies writes one policy for each key. Envoy evaluates them sequentially.
func rbacPolicies(b *strings.Builder, s keySet) {
	ranges := cidrs(s.ranges, "{direct_remote_ip: {address_prefix: %s, prefix_len: %s}}")
	b.WriteString("            rules:\n              policies:\n")
	for i := range s.keys {
		fmt.Fprintf(b, "                key_%07d: {permissions: [{any: true}], principals: [{and_ids: {ids: [{header: {name: x-client-id, string_match: {exact: key_%07d}}}, {or_ids: {ids: [%s]}}]}}]}\n", i, i, ranges)
	}
}

// rbacMatcher writes a map from keys to their ranges.
func rbacMatcher(b *strings.Builder, s keySet) {
	ranges := cidrs(s.ranges, "{address_prefix: %s, prefix_len: %s}")
	b.WriteString(`            matcher:
              matcher_tree:
                input: {name: client, typed_config: {"@type": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-client-id}}
                exact_match_map:
                  map:
`)
	for i := range s.keys {
		fmt.Fprintf(b, `                    key_%07d: {matcher: {matcher_tree: {input: {name: ip, typed_config: {"@type": type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput}}, custom_match: {name: ranges, typed_config: {"@type": type.googleapis.com/xds.type.matcher.v3.IPMatcher, range_matchers: [{ranges: [%s], on_match: {action: {name: allow, typed_config: {"@type": type.googleapis.com/envoy.config.rbac.v3.Action, name: allow}}}}]}}}}}`+"\n", i, ranges)
	}
}
