package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// checkMethod is what Envoy calls.
const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

// A template is an encoded CheckRequest whose secret can be replaced.
type template struct {
	bytes []byte
	at    int
}

// newTemplate returns a browser's request from this address, as Envoy sends it.
func newTemplate(client string) (template, error) {
	placeholder := secret(0)
	b, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peerAt(client, 40000), Destination: peerAt("127.0.0.1", 10000),
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1234567890123456789", Method: "GET", Path: "/v1/documents/17?fields=title", Host: "api.example", Scheme: "https", Protocol: "HTTP/1.1",
			Headers: map[string]string{
				":authority": "api.example", ":method": "GET", ":path": "/v1/documents/17?fields=title", ":scheme": "https",
				"x-api-key": placeholder, "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
				"accept": "application/json", "accept-language": "en-GB,en;q=0.5", "accept-encoding": "gzip, deflate, br, zstd",
				"x-forwarded-proto": "https", "x-request-id": "b3ae2f17-68c4-4f2a-9d4a-1f3f2b1c0d9e",
			},
		}},
	}})
	return template{b, bytes.Index(b, []byte(placeholder))}, err
}

func peerAt(addr string, port uint32) *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: addr, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}}
}

// with returns the request with this secret.
func (t template) with(secret string) []byte {
	b := bytes.Clone(t.bytes)
	copy(b[t.at:], secret)
	return b
}

// rawCodec sends requests that are already encoded, and does not decode responses.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// A directLoad calls a server as Envoy does: many concurrent calls over few connections.
type directLoad struct {
	conns    []*grpc.ClientConn
	template template
	draw     func() string // the next secret; safe for concurrent use
	allowed  bool          // what every answer must be
}

const (
	directConns = 2
	directCalls = 64 // in progress at once
)

func newDirectLoad(addr string, draw func() string, allowed bool) (*directLoad, error) {
	t, err := newTemplate(client)
	if err != nil {
		return nil, err
	}
	l := &directLoad{template: t, draw: draw, allowed: allowed}
	target := "dns:///" + addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		target = "unix:" + path
	}
	for range directConns {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, conn)
	}
	return l, nil
}

func (l *directLoad) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// check makes one call and returns whether it allows.
func (l *directLoad) check(ctx context.Context, worker int, secret string) (bool, error) {
	var reply []byte
	if err := l.conns[worker%len(l.conns)].Invoke(ctx, checkMethod, l.template.with(secret), &reply); err != nil {
		return false, err
	}
	var resp authv3.CheckResponse
	if len(reply) > 3 && reply[0] == 1<<3|2 && reply[1] == 0 { // an empty status, as in nearly every response that allows
		return true, nil
	}
	if err := proto.Unmarshal(reply, &resp); err != nil {
		return false, err
	}
	return resp.GetStatus().GetCode() == 0, nil
}

// run makes calls for the duration and returns how many. Each worker has one call in progress.
func (l *directLoad) run(ctx context.Context, d time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
	defer cancel()
	var n atomic.Int64
	errs := make([]error, directCalls)
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for w := range directCalls {
		wg.Go(func() {
			for time.Now().Before(end) {
				allowed, err := l.check(ctx, w, l.draw())
				if err == nil && allowed != l.allowed {
					err = fmt.Errorf("a check answers allowed=%t", allowed)
				}
				if err != nil {
					errs[w] = err
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return int(n.Load()), errors.Join(errs...)
}

// among draws the secrets of n keys.
func among(n int) func() string { return func() string { return secret(rand.IntN(n)) } }

// only draws the secret of one key.
func only(i int) func() string {
	s := secret(i)
	return func() string { return s }
}

// random draws secrets that no key has, none of them twice.
func random() string { return fmt.Sprintf("sx_%021d", rand.Uint64()) }
