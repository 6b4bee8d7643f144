// Package harness starts the programs for tests through a real Envoy: Envoy itself, the extauthz binary,
// and an upstream that records its requests. They listen on loopback, stop when the test ends, and their
// output is logged if the test failed.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Envoy returns the path of the Envoy binary. The test fails if there is none.
func Envoy(t testing.TB) string {
	t.Helper()
	return envoyAt(t, "envoy")
}

// OlderEnvoy returns the path of an Envoy of the previous release, 1.39.
func OlderEnvoy(t testing.TB) string {
	t.Helper()
	return envoyAt(t, "envoy-of-gateway")
}

func envoyAt(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), ".tools", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy at .tools/%s: run `make test`, or `make .tools/%s` for Envoy alone (%v)", name, name, err)
	}
	return path
}

// Root returns the folder of the product's module: the working directory or one above it.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(text), "module extauthz\n") {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	t.Fatalf("no go.mod of extauthz in %s or above (%v)", dir, err)
	return ""
}

// FreeAddr returns an address on 127.0.0.1 with a free port. The port is below the range for outgoing
// connections, so that none of them uses it before its server starts.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port from 12000 to 31999")
	return ""
}
