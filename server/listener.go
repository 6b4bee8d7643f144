package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"extauthz/config"
)

// listen opens the listener. A unix socket that an earlier server left behind is replaced;
// one on which another server listens, and any other file in its place, is left alone.
func listen(ctx context.Context, a config.Address, socket config.Socket) (net.Listener, error) {
	var lc net.ListenConfig
	if a.Network != "unix" {
		return lc.Listen(ctx, a.Network, a.Address)
	}
	if err := removeStaleSocket(ctx, a.Address); err != nil {
		return nil, err
	}
	umask := syscall.Umask(0o777) // no one connects before the socket has its mode
	lis, err := lc.Listen(ctx, a.Network, a.Address)
	syscall.Umask(umask)
	if err != nil {
		return nil, socketError(a.Address, err)
	}
	if err := setSocket(a.Address, socket); err != nil {
		return nil, errors.Join(err, lis.Close())
	}
	return lis, nil
}

// setSocket gives a socket the mode and the group that are configured.
func setSocket(path string, socket config.Socket) error {
	gid, err := groupID(path, socket.Group)
	if err != nil {
		return err
	}
	var is unix.Stat_t
	if err := unix.Stat(path, &is); err != nil {
		return fmt.Errorf("socket: unix:%s: %w", path, err)
	}
	if int(is.Gid) != gid {
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("socket.group: unix:%s: group %s: the server must be a member of it: %w", path, cmp.Or(socket.Group, strconv.Itoa(gid)), err)
		}
	}
	return os.Chmod(path, socket.Mode)
}

// groupID returns the number of the group with this name or number; for "" that of a file which is
// made beside path.
func groupID(path, group string) (int, error) {
	if group == "" {
		dir, err := os.Stat(filepath.Dir(path))
		if err != nil {
			return 0, err
		}
		if sys, ok := dir.Sys().(*syscall.Stat_t); ok && dir.Mode()&fs.ModeSetgid != 0 {
			return int(sys.Gid), nil
		}
		return os.Getegid(), nil
	}
	number := group
	if g, err := user.LookupGroup(group); err == nil {
		number = g.Gid
	}
	gid, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("socket.group: there is no group %q on this machine: write the name or the number of one that the server is in", group)
	}
	return int(gid), nil
}

// socketError says what to do about a socket that could not be made.
func socketError(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("listen unix:%s: there is no folder %s: make it, or listen elsewhere", path, dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("listen unix:%s: user %d may not write to the folder %s: change its owner or mode, or listen elsewhere", path, os.Getuid(), dir)
	}
	return fmt.Errorf("listen unix:%s: %w", path, err)
}

func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return socketError(path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen unix:%s: the file is not a socket: remove it, or listen elsewhere", path)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("listen unix:%s: another server listens on it: stop it, or listen elsewhere", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen unix:%s: there is a socket, and whether it is in use cannot be determined: %w", path, err)
	}
	return os.Remove(path)
}
