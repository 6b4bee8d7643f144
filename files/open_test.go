package files

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A path that is not a file is an error immediately.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		dir:          "it is a folder: name a file in it",
		pipe:         "it is a named pipe, which may never have a writer: name a file",
		socket:       "it is a socket: name a file",
		os.DevNull:   "it is a device: name a file",
		dir + "/no":  "no such file or directory",
		pipe + "/no": "not a directory",
	} {
		if _, err := Read(path); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

// The pipes of a shell are read: <(command) is /dev/fd/N.
func TestOpenAnonymousPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { _, _ = w.WriteString("keys: []\n"); _ = w.Close() }()
	if text, err := Read(fmt.Sprintf("/dev/fd/%d", r.Fd())); err != nil || string(text) != "keys: []\n" {
		t.Errorf("got %q, error %v", text, err)
	}
}

// An error about permissions contains the user and the cause.
func TestOpenPermission(t *testing.T) {
	if os.Getenv("OPEN_AS_USER") != "" {
		_, err := Open(os.Getenv("OPEN_AS_USER"))
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v is not a permission error", err)
		}
		_, _ = os.Stdout.WriteString("<" + err.Error() + ">\n")
		return
	}
	root, err := os.MkdirTemp("", "files") //nolint:usetesting // other users cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	binary, closed := filepath.Join(root, "test"), filepath.Join(root, "closed")
	for _, err := range []error{
		os.Chmod(root, 0o755), os.WriteFile(binary, text, 0o755), os.Mkdir(closed, 0o700),
		os.WriteFile(filepath.Join(root, "keys.yaml"), nil, 0o640), os.Chown(filepath.Join(root, "keys.yaml"), 7, 8),
		os.Symlink(filepath.Join(closed, "dir", "keys.yaml"), filepath.Join(root, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"keys.yaml":  "permission denied for user 65532: it belongs to user 7 and group 8, and its mode is 0640: let user 65532 read it, by chmod or chown",
		"closed/a/b": "permission denied for user 65532: the folder " + closed + " belongs to user 0 and group 0, and its mode is 0700: let user 65532 read and search it, by chmod or chown",
		"link":       "permission denied for user 65532: the folder " + closed + " belongs to user 0",
	} {
		cmd := exec.Command(binary, "-test.run=^TestOpenPermission$")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "OPEN_AS_USER="+filepath.Join(root, path))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "<"+want) {
			t.Errorf("%s: %v\n%s\nwant %s", path, err, out, want)
		}
	}
}
