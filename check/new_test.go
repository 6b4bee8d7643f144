package check

import (
	"net/netip"
	"strings"
	"testing"

	"extauthz/authz"
)

func TestNew(t *testing.T) {
	ok := decides(nil)
	tests := []struct {
		name string
		cfg  Config
		want []string // parts of the error; none: no error
	}{
		{"defaults", Config{Authorizer: ok}, nil},
		{"nothing", Config{}, []string{"no Authorizer"}},
		{"every error at once", Config{
			KeySources:    []KeySource{nil, Header("a b")},
			ClientAddress: TrustedHops(0, true, WithoutPort),
			Statuses:      map[authz.Code]int{authz.Forbidden: 200},
		}, []string{"no Authorizer", "entry 1 is nil", `entry 2 ("header a b"): not the name of a header`, "trusted_hops is out of range", "FORBIDDEN: 200 does not refuse"}},
		{"status for VALID", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Valid: 403}}, []string{"VALID is not the code of a refusal"}},
		{"status of a code that is none", Config{Authorizer: ok, Statuses: map[authz.Code]int{200: 403}}, []string{"is not the code of a refusal"}},
		{"status 399", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 399}}, []string{"399"}},
		{"status 600", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 600}}, []string{"600"}},
		{"statuses 400 and 599", Config{Authorizer: ok, Statuses: map[authz.Code]int{authz.Expired: 400, authz.Disabled: 599}}, nil},
		{"same source twice", Config{Authorizer: ok, KeySources: []KeySource{Scheme("Authorization", "Bearer"), Scheme("authorization", "bearer")}}, []string{"the same as entry 1"}},
		{"same header, two schemes", Config{Authorizer: ok, KeySources: []KeySource{Scheme("authorization", "Bearer"), Scheme("authorization", "ApiKey"), Header("authorization")}}, nil},
		{"query names differ in case", Config{Authorizer: ok, KeySources: []KeySource{Query("key"), Query("KEY")}}, nil},
		{"sources without a name", Config{Authorizer: ok, KeySources: []KeySource{Header(""), Query(""), Cookie(""), Scheme("x", "")}}, []string{"entry 1 (\"header \"): not", "entry 2 (\"query \"): not", "entry 3 (\"cookie \"): not", "entry 4 (\"header x, scheme \"): not"}},
		{"scheme with a space", Config{Authorizer: ok, KeySources: []KeySource{Scheme("x", "Bearer ")}}, []string{"not the name of an authentication scheme"}},
		{"pseudo-header", Config{Authorizer: ok, KeySources: []KeySource{Header(":path")}}, []string{"not the name of a header"}},
		{"host", Config{Authorizer: ok, KeySources: []KeySource{Header("Host")}}, []string{"host cannot be removed"}},
		{"cookie as a header", Config{Authorizer: ok, KeySources: []KeySource{Header("Cookie")}}, []string{"write cookie: NAME"}},
		{"our own header", Config{Authorizer: ok, KeySources: []KeySource{Header("X-Extauthz_Key")}}, []string{"begin with x-extauthz-"}},
		{"query that would be encoded", Config{Authorizer: ok, KeySources: []KeySource{Query("api key")}}, []string{"not the name of a query parameter"}},
		{"cookie with =", Config{Authorizer: ok, KeySources: []KeySource{Cookie("a=b")}}, []string{"not the name of a cookie"}},
		{"no prefix", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Header("x"), "")}}, []string{"not the prefix of a secret"}},
		{"prefix with a comma", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Header("x"), "a,")}}, []string{"not the prefix of a secret"}},
		{"prefix of a bad source", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Header("a b"), "sk_")}}, []string{"not the name of a header"}},
		{"two prefixes", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Header("x"), "a_"), WithPrefix(Header("x"), "b_"), Header("x")}}, nil},
		{"the same prefix twice", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Query("x"), "a_"), WithPrefix(Query("x"), "a_")}}, []string{"the same as entry 1"}},
		{"secret and address in one header", Config{Authorizer: ok, KeySources: []KeySource{Scheme("X-Client", "Bearer")}, ClientAddress: AddressHeader("x-client", nil, WithoutPort)}, []string{"a secret or an address, not both"}},
		{"secret in x-forwarded-for", Config{Authorizer: ok, KeySources: []KeySource{WithPrefix(Header("x-forwarded-for"), "sk_")}, ClientAddress: lb}, []string{"a secret or an address, not both"}},
		{"too many hops", Config{Authorizer: ok, ClientAddress: TrustedHops(101, true, WithoutPort)}, []string{"from 1 to 100"}},
		{"header with bad proxies", Config{Authorizer: ok, ClientAddress: AddressHeader("x", []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}, WithoutPort)}, []string{"did you mean 10.0.0.0/8"}},
		{"no proxies", Config{Authorizer: ok, ClientAddress: TrustedProxies(nil, WithoutPort)}, []string{"no proxy is trusted"}},
		{"proxies with host bits", Config{Authorizer: ok, ClientAddress: TrustedProxies([]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}, WithoutPort)}, []string{"did you mean 10.0.0.0/8"}},
		{"proxies mapped", Config{Authorizer: ok, ClientAddress: TrustedProxies([]netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}, WithoutPort)}, []string{"IPv4-mapped"}},
		{"proxies, many zero", Config{Authorizer: ok, ClientAddress: TrustedProxies(make([]netip.Prefix, 20), WithoutPort)}, []string{"not a CIDR range"}},
		{"address header is a list", Config{Authorizer: ok, ClientAddress: AddressHeader("X-Forwarded-For", nil, WithoutPort)}, []string{"x-forwarded-for is a list"}},
		{"address header is nothing", Config{Authorizer: ok, ClientAddress: AddressHeader("", nil, WithoutPort)}, []string{"not the name of a header"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(tt.cfg)
			if (err == nil) != (len(tt.want) == 0) || (s == nil) != (err != nil) {
				t.Fatalf("New returned %v, %v", s, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}
