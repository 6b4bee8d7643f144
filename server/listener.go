package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"extauthz/config"
)

// socketMode lets the owner and the group of a unix socket connect to it.
const socketMode = 0o660

// listen opens the listener. A unix socket that an earlier server left behind is replaced;
// one that somebody listens on, and any other file in its place, is left alone.
func listen(ctx context.Context, a config.Address) (net.Listener, error) {
	if a.Network == "unix" {
		if err := removeStaleSocket(ctx, a.Address); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, a.Network, a.Address)
	if err != nil {
		return nil, err
	}
	if a.Network == "unix" {
		if err := os.Chmod(a.Address, socketMode); err != nil {
			return nil, errors.Join(err, lis.Close())
		}
	}
	return lis, nil
}

func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen unix:%s: a file that is not a socket stands there: move it away, or listen elsewhere", path)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("listen unix:%s: another server listens there: stop it, or listen elsewhere", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen unix:%s: a socket stands there, and it cannot be told whether it is in use: %w", path, err)
	}
	return os.Remove(path)
}
