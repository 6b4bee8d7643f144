package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/proctest"
)

// serviceName is the service whose health Envoy may check.
const serviceName = "envoy.service.auth.v3.Authorization"

// A process is a running extauthz serve.
type process struct {
	*proctest.Process
	listen, admin string
	conn          *grpc.ClientConn
}

// serve starts the binary with a configuration, and waits until it serves.
func serve(t *testing.T, configuration string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "extauthz.yaml")
	write(t, file, configuration)
	return serving(t, start(t, "serve", "--config", file))
}

// serving waits until the process serves, and connects to it.
func serving(t testing.TB, p *process) *process {
	t.Helper()
	line := regexp.MustCompile(`msg=serving listen=(\S+) admin=(\S+)`)
	polltest.Until(t, "serving\n"+p.Log(), func() bool {
		m := line.FindStringSubmatch(p.Log())
		if m != nil {
			p.listen, p.admin = m[1], m[2]
		}
		return m != nil
	})
	p.conn = dial(t, p.listen)
	return p
}

func start(t testing.TB, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, exec.Command(self, args...))
}

// startCommand starts a command that runs this binary as extauthz.
func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Env = append(os.Environ(), asBinary+"=1")
	return &process{Process: proctest.Start(t, strings.Join(cmd.Args, " "), cmd, nil)}
}

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			network := "tcp"
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				network, address = "unix", path
			}
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// get returns the admin listener's response at a path.
func (p *process) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + p.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// metric returns the value of one line of the metrics.
func (p *process) metric(t *testing.T, name string) string {
	t.Helper()
	_, body := p.get(t, "/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no metric %s in\n%s", name, body)
	return ""
}

// message returns a new message of the protocol, by its name.
func message(t testing.TB, name protoreflect.FullName) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName("envoy.service.auth.v3." + name)
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// mustCheck sends a check as Envoy does, and returns the code of the decision.
func mustCheck(t *testing.T, conn *grpc.ClientConn, secret, peer string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	code, err := tryCheck(ctx, t, conn, secret, peer)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

var refusalCode = regexp.MustCompile(`"code":"([A-Z_]+)"`)

func tryCheck(ctx context.Context, t testing.TB, conn *grpc.ClientConn, secret, peer string) (string, error) {
	t.Helper()
	req, resp := checkRequest(t, secret, peer), message(t, "CheckResponse")
	if err := conn.Invoke(ctx, "/envoy.service.auth.v3.Authorization/Check", req, resp, grpc.WaitForReady(true)); err != nil {
		return "", err
	}
	fields := resp.ProtoReflect()
	descriptor := fields.Descriptor().Fields()
	body := fields.Get(descriptor.ByName("denied_response")).Message()
	if m := refusalCode.FindStringSubmatch(body.Get(body.Descriptor().Fields().ByName("body")).String()); m != nil {
		return m[1], nil
	}
	if fields.Has(descriptor.ByName("ok_response")) {
		return "VALID", nil
	}
	return protojson.Format(resp), nil
}

// checkRequest returns a check request as Envoy sends it.
func checkRequest(t testing.TB, secret, peer string) proto.Message {
	t.Helper()
	req := message(t, "CheckRequest")
	text := fmt.Sprintf(`{"attributes": {
		"source": {"address": {"socketAddress": {"address": %q, "portValue": 1234}}},
		"request": {"http": {"method": "GET", "host": "api.example.com", "path": "/things?api_key=%s",
			"headers": {":path": "/things?api_key=%[2]s", "x-api-key": %[2]q, "x-request-id": "req-1"}}}}}`, peer, secret)
	if err := protojson.Unmarshal([]byte(text), req); err != nil {
		t.Fatal(err)
	}
	return req
}

func healthOf(t *testing.T, conn *grpc.ClientConn, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), polltest.Patience)
	defer cancel()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus()
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keyFile returns the text of a key file with a key for each secret, open to 10.0.0.0/8.
func keyFile(secrets ...string) string {
	var b strings.Builder
	b.WriteString("keys:\n")
	for i, s := range secrets {
		fmt.Fprintf(&b, "  - {id: key_%d, name: key number %[1]d, hash: %s, ip_whitelist: [10.0.0.0/8]}\n", i, keystore.Secret(s).Hash())
	}
	return b.String()
}
