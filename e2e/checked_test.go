package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// A checked is a server that the test calls directly, as Envoy does.
type checked struct {
	*harness.Server
	client authv3.AuthorizationClient
}

func newChecked(b testing.TB, s *harness.Server) *checked {
	b.Helper()
	conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &checked{s, authv3.NewAuthorizationClient(conn)}
}

// allows reports whether a request with the secret is allowed. An error means that there is no decision.
func (c *checked) allows(ctx context.Context, secret keystore.Secret) (bool, error) {
	return c.check(ctx, secret, "/documents/17")
}

// check is allows for any path.
func (c *checked) check(ctx context.Context, secret keystore.Secret, path string) (bool, error) {
	peer := &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}}
	reply, err := c.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: peer}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: path, Headers: map[string]string{":method": "GET", ":path": path, "x-api-key": string(secret)},
		}},
	}}, grpc.WaitForReady(true))
	return err == nil && reply.GetStatus().GetCode() == 0, err
}

// must returns an error unless the secret is allowed.
func (c *checked) must(ctx context.Context, secret keystore.Secret) error {
	ok, err := c.allows(ctx, secret)
	if err == nil && !ok {
		err = fmt.Errorf("%s was refused", secret.Hash())
	}
	return err
}

// each checks n secrets, some concurrently. Each must be allowed.
func (c *checked) each(b *testing.B, n int, secret func(i int) keystore.Secret) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 32 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := c.must(b.Context(), secret(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// untilRefused polls until the secret is refused.
func (c *checked) untilRefused(b *testing.B, secret keystore.Secret) {
	for deadline := time.Now().Add(polltest.Patience); ; time.Sleep(200 * time.Microsecond) {
		switch ok, err := c.allows(b.Context(), secret); {
		case err != nil:
			b.Error(err)
			return
		case !ok:
			return
		case time.Now().After(deadline):
			b.Errorf("not refused within %s", polltest.Patience)
			return
		}
	}
}

// metric returns a value from /metrics.
func (c *checked) metric(b *testing.B, name string) float64 {
	b.Helper()
	return number(b, `(?m)^`+name+` (\S+)$`, c.Metrics(b))
}

// memory returns a field of proc_pid_status(5), in MB.
func (c *checked) memory(b *testing.B, field string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Pid()))
	if err != nil {
		b.Fatal(err)
	}
	return number(b, `(?m)^`+field+`:\s+(\d+) kB$`, string(status)) / 1024
}

// cpu returns the CPU time that the server has used, from proc_pid_stat(5), in hundredths of a second.
func (c *checked) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid()))
	if err != nil {
		b.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(string(f))
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func number(b *testing.B, pattern, text string) float64 {
	b.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		b.Fatalf("no %s in\n%s", pattern, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// A background is work that is repeated until it is stopped. The zero value does nothing.
type background struct {
	wg    sync.WaitGroup
	ended atomic.Bool
	done  atomic.Int64
	err   atomic.Pointer[error]
}

// goWith calls step about every 2 ms in a new goroutine.
func (g *background) goWith(step func(i int) error) {
	g.wg.Go(func() {
		for i := 0; !g.ended.Load(); i++ {
			if err := step(i); err != nil {
				g.err.Store(&err)
				return
			}
			g.done.Add(1)
			time.Sleep(2 * time.Millisecond)
		}
	})
}

// stop returns the number of steps. The benchmark fails if a step failed.
func (g *background) stop(b *testing.B) int64 {
	b.Helper()
	g.ended.Store(true)
	g.wg.Wait()
	if err := g.err.Load(); err != nil {
		b.Error(*err)
	}
	return g.done.Load()
}
