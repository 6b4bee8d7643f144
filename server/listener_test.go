package server

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"extauthz/config"
)

// A socket has the mode and the group that are configured.
func TestSocketModeAndGroup(t *testing.T) {
	other := os.Getgid()
	if os.Getuid() == 0 {
		other = 4711 // any group will do
	}
	for _, c := range []struct {
		socket config.Socket
		mode   fs.FileMode
		gid    int
	}{
		{config.Default().Socket, 0o660, os.Getgid()},
		{config.Socket{Mode: 0o600}, 0o600, os.Getgid()},
		{config.Socket{Mode: 0o666, Group: strconv.Itoa(other)}, 0o666, other},
	} {
		path := filepath.Join(t.TempDir(), "a.sock")
		lis, err := listen(t.Context(), config.Address{Network: "unix", Address: path}, c.socket)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if gid := int(info.Sys().(*syscall.Stat_t).Gid); info.Mode().Perm() != c.mode || gid != c.gid {
			t.Errorf("%+v: mode %s, group %d; want %s, %d", c.socket, info.Mode().Perm(), gid, c.mode, c.gid)
		}
		lis.Close()
	}
}

// The error contains the reason why a socket cannot be created.
func TestSocketErrors(t *testing.T) {
	dir := t.TempDir()
	file, used := filepath.Join(dir, "file"), filepath.Join(dir, "used.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", used)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct{ path, group, want string }{
		{dir + "/none/a.sock", "", "there is no folder " + dir + "/none: make it"},
		{file + "/a.sock", "", "there is no folder " + file + ": make it"},
		{file, "", "the file is not a socket"},
		{used, "", "another server listens on it"},
		{dir + "/a.sock", "no_such_group", `there is no group "no_such_group" on this machine`},
	} {
		_, err := listen(t.Context(), config.Address{Network: "unix", Address: c.path}, config.Socket{Mode: 0o660, Group: c.group})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, group %q: %v, want %s", c.path, c.group, err, c.want)
		}
	}
	if _, err := os.Lstat(dir + "/a.sock"); err == nil {
		t.Error("a socket without its group is left behind")
	}
}
