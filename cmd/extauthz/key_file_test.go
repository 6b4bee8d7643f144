package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// extauthzIn runs a command line of sh in which "$@" is the binary with its arguments, and returns the
// output.
func extauthzIn(t *testing.T, script string, attributes *syscall.SysProcAttr) (string, error) {
	t.Helper()
	binary := publicBinary(t)
	cmd := exec.Command("sh", "-c", script, "sh", binary)
	cmd.Dir, cmd.SysProcAttr = filepath.Dir(binary), attributes
	cmd.Env = append(os.Environ(), asBinary+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The error of an edit that cannot be written says what to do.
func TestKeyFileNotWritable(t *testing.T) {
	t.Parallel()
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	mounts := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	for name, c := range map[string]struct {
		script     string
		attributes *syscall.SysProcAttr
		want       string
	}{
		"a file that is a mount point": {
			`mount --make-rprivate / && mount --bind "$0" "$0" && exec "$@" key disable key_0 --keys "$0"`, mounts,
			": it is a mount point, and cannot be replaced: mount its folder, and name the file in it",
		},
		"a folder that is mounted read-only": {
			`dir=$(dirname "$0"); mount --make-rprivate / && mount --bind $dir $dir && mount -o remount,bind,ro $dir && exec "$@" key disable key_0 --keys "$0"`, mounts,
			": the file system is read-only: edit the file where it comes from, such as the ConfigMap",
		},
		"a folder that belongs to another": {
			`exec "$@" key disable key_0 --keys "$0"`, nobody,
			": permission denied for user 65532: the folder DIR belongs to user 0 and group 0, and its mode is 0755: let user 65532 create files in it, for a file is replaced as a whole, by chmod or chown",
		},
		"a file that belongs to another": {
			`exec "$@" key disable key_0 --keys "$0"`, nobody,
			": it belongs to user 0 and group 0, which only root can keep: edit it as that user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := publicDir(t)
			if name == "a file that belongs to another" {
				if err := os.Chmod(dir, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			keys := filepath.Join(dir, "keys.yaml")
			replace(t, keys, keyFile(secretOne), 0o644)
			script := strings.ReplaceAll(c.script, "$0", keys)
			out, err := extauthzIn(t, script, c.attributes)
			if want := strings.ReplaceAll(c.want, "DIR", dir); err == nil || !strings.Contains(out, want) {
				t.Errorf("%v: %s\nwant %s", err, out, want)
			}
			if text, err := os.ReadFile(keys); err != nil || string(text) != keyFile(secretOne) {
				t.Errorf("the file is %q, error %v", text, err)
			}
		})
	}
}
