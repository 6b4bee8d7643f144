package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Extauthz returns the path of the extauthz binary.
func Extauthz(t testing.TB) string {
	t.Helper()
	return Binary(t, "cmd/extauthz")
}

// Binary returns the path of the command in this folder of the module, built from the current tree, with
// the race detector if the test has it.
func Binary(t testing.TB, folder string) string {
	t.Helper()
	return built(t, folder, build)
}

// Module returns the path of libextauthz.so, built from the current tree, always without the race
// detector, whose runtime Envoy would have to load at its start.
func Module(t testing.TB) string {
	t.Helper()
	return built(t, "cmd/libextauthz", func(root, folder string) (string, error) {
		return buildAs(root, folder, "libextauthz.so", "-trimpath", "-buildmode=c-shared")
	})
}

// PanickingModule returns the path of a module whose checks all dereference a nil pointer. Its name in an Envoy
// configuration is extauthz_panicking.
func PanickingModule(t testing.TB) string {
	t.Helper()
	return builtAs(t, "libextauthz_panicking.so", "cmd/libextauthz", func(root, folder string) (string, error) {
		return buildAs(root, folder, "libextauthz_panicking.so", "-trimpath", "-buildmode=c-shared", "-tags=panicking")
	})
}

func built(t testing.TB, folder string, build func(root, folder string) (string, error)) string {
	t.Helper()
	return builtAs(t, folder, folder, build)
}

// builtAs builds the package in a folder, once for each name.
func builtAs(t testing.TB, name, folder string, build func(root, folder string) (string, error)) string {
	t.Helper()
	root := Root(t)
	once, _ := binaries.LoadOrStore(name, sync.OnceValues(func() (string, error) { return build(root, folder) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s: %v", folder, err)
	}
	return path
}

var binaries sync.Map // from a folder to how its binary is built, once

// build builds a program.
func build(root, folder string) (string, error) {
	if raceEnabled {
		return buildAs(root, folder, filepath.Base(folder)+"-race", "-race")
	}
	return buildAs(root, folder, filepath.Base(folder))
}

// buildDir returns the folder of this tree's binaries. Several work trees may share .tools by a link; each
// has a separate folder.
func buildDir(root string) string {
	tree := sha256.Sum256([]byte(root))
	return filepath.Join(root, ".tools", "test", hex.EncodeToString(tree[:4]))
}

// buildAs builds a binary with this name under .tools, unless it is up to date. Several test processes may
// call it concurrently.
func buildAs(root, folder, name string, flags ...string) (string, error) {
	if err := dependOn(root, folder); err != nil {
		return "", err
	}
	dir := buildDir(root)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	path, args := filepath.Join(dir, name), append([]string{"build", "-buildvcs=false"}, flags...)
	// go build updates the time of an unchanged binary, which go test would treat as a change.
	err = goTool(root, io.Discard, append(args, "-o", path+".built", "./"+folder)...)
	if err != nil {
		return "", err
	}
	const replace = `cmp -s "$0.built" "$0" || { cp "$0.built" "$0.new" && mv "$0.new" "$0"; }`
	return path, exec.Command("sh", "-c", replace, path).Run()
}

// dependOn opens the source files of the command in a folder, so that go test does not use a cached result
// after they have changed.
func dependOn(root, folder string) error {
	const files = "{{if not .Standard}}{{.Dir}}/.\n{{range .EmbedFiles}}{{$.Dir}}/{{.}}\n{{end}}{{end}}"
	var list strings.Builder
	if err := goTool(root, &list, "list", "-deps", "-f", files, "./"+folder); err != nil {
		return err
	}
	seen := map[string]bool{}
	for file := range strings.Lines(list.String()) {
		dir := filepath.Dir(strings.TrimSpace(file))
		if seen[dir] || !strings.HasPrefix(dir, root+"/") {
			continue
		}
		seen[dir] = true
		if _, err := os.ReadDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func goTool(dir string, out io.Writer, args ...string) error {
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	return nil
}
