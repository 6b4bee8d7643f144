package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"gopkg.in/yaml.v3"
)

// peers are the servers that extauthz is compared with, by the name after `bench peer`. Each is a
// plain grpc-go server with the generated code.
var peers = map[string]func(keyFile string) (authv3.AuthorizationServer, error){
	"stock": func(string) (authv3.AuthorizationServer, error) { return stock{}, nil },
	"naive": newNaive,
	"opa":   newOPA,
}

// servePeer runs a peer until it is killed.
func servePeer(kind, addr, keyFile string) error {
	p, ok := peers[kind]
	if !ok {
		return fmt.Errorf("there is no peer %q", kind)
	}
	service, err := p(keyFile)
	if err != nil {
		return err
	}
	path := strings.TrimPrefix(addr, "unix:")
	l, err := net.Listen(network(addr), path)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, service)
	return s.Serve(l)
}

// stock always allows, as a lower bound.
type stock struct {
	authv3.UnimplementedAuthorizationServer
}

// Check allows.
func (stock) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// A record is a key as the peers read it.
type record struct {
	ID        string   `yaml:"id"`
	Hash      string   `yaml:"hash"`
	Whitelist []string `yaml:"ip_whitelist"`
}

func readRecords(path string) ([]record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f struct {
		Keys []record `yaml:"keys"`
	}
	return f.Keys, yaml.Unmarshal(b, &f)
}

// naive is a simple implementation: a map by hash, and a linear scan of the whitelist.
type naive struct {
	authv3.UnimplementedAuthorizationServer

	keys map[string]naiveKey
}

type naiveKey struct {
	id        string
	whitelist []netip.Prefix
}

func newNaive(keyFile string) (authv3.AuthorizationServer, error) {
	records, err := readRecords(keyFile)
	n := &naive{keys: make(map[string]naiveKey, len(records))}
	for _, r := range records {
		k := naiveKey{id: r.ID}
		for _, s := range r.Whitelist {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, err
			}
			k.whitelist = append(k.whitelist, p)
		}
		n.keys[r.Hash] = k
	}
	return n, err
}

// Check decides.
func (n *naive) Check(_ context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	secret := req.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-api-key"]
	k, ok := n.keys[hash(secret)]
	if !ok {
		return deny(typev3.StatusCode_Unauthorized, "NOT_FOUND"), nil
	}
	addr, err := netip.ParseAddr(req.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress())
	if err == nil {
		for _, p := range k.whitelist {
			if p.Contains(addr) {
				return allow(k.id), nil
			}
		}
	}
	return deny(typev3.StatusCode_Forbidden, "FORBIDDEN"), nil
}

func allow(id string) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &statuspb.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers:         []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-extauthz-key-id", Value: id}}},
		HeadersToRemove: []string{"x-api-key"},
	}}}
}

func deny(status typev3.StatusCode, code string) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &statuspb.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: status}, Body: fmt.Sprintf(`{"data":{"valid":false,"code":%q}}`, code),
		}},
	}
}
