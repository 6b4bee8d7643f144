// Package harness starts what a test through the real Envoy needs: Envoy itself, the extauthz
// binary, and an upstream that keeps what it was sent. Everything listens on loopback, is
// stopped when the test ends, and shows its log when the test failed.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Envoy returns the path of the Envoy binary. The test fails where there is none.
func Envoy(t testing.TB) string {
	t.Helper()
	path := filepath.Join(Root(t), ".tools", "envoy")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy at .tools/envoy: run `make test`, or `make envoy` for Envoy alone (%v)", err)
	}
	return path
}

// Root returns the folder of the product's module, found from the working directory upwards.
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

// Extauthz returns the path of the extauthz binary.
func Extauthz(t testing.TB) string {
	t.Helper()
	return Binary(t, "cmd/extauthz")
}

// Binary returns the path of the command in this folder of the module. It is built once a test
// run from the tree as it is, with the race detector where the test has it.
func Binary(t testing.TB, folder string) string {
	t.Helper()
	root := Root(t)
	once, _ := binaries.LoadOrStore(folder, sync.OnceValues(func() (string, error) { return build(root, folder) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", folder, err)
	}
	return path
}

var binaries sync.Map // from a folder to how its binary is built, once

// build puts the binary under .tools. Several test processes may do so at once, and one may
// run what another is about to replace: each builds its own file and renames it.
func build(root, folder string) (string, error) {
	dir := filepath.Join(root, ".tools", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	name, args := filepath.Base(folder), []string{"build", "-buildvcs=false"}
	if raceEnabled {
		name, args = name+"-race", append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "-o", filepath.Join(work, name), "./"+folder)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	path := filepath.Join(dir, name)
	return path, os.Rename(filepath.Join(work, name), path)
}

// FreeAddr returns an address on 127.0.0.1 that nothing listens on. Its port is below those
// that the system gives to outgoing connections, so that none of them takes it before its
// server starts.
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
