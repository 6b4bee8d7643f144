package files

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Replace atomically replaces the contents of the file at path, following links. It keeps the file's
// mode, owner and access control list, so that whoever could read it still can. A new file gets
// those of the file like. If there is no such file, or its owner cannot be set, only its owner can
// read the new file. The new contents are on the disk when Replace returns. Its errors contain path,
// and say what to do.
func Replace(path, like string, data []byte) error {
	target, err := Resolve(path)
	if err != nil {
		return err
	}
	if err := replace(target, like, data); err != nil {
		return notWritten(path, err)
	}
	return nil
}

func notWritten(path string, err error) error {
	return fmt.Errorf("%s: cannot be written: %w", path, ExplainWrite(path, err))
}

func replace(path, like string, data []byte) error {
	_, err := os.Stat(path)
	isNew := err != nil
	if !isNew {
		like = path
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left to clean up after a success
	if info, err := os.Stat(like); err == nil {
		if err := copyAccess(f.File, like, info); err != nil && !isNew {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// copyAccess gives f the owner, mode and access control list of the file like.
func copyAccess(f *os.File, like string, info fs.FileInfo) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok1 := info.Sys().(*syscall.Stat_t)
	have, ok2 := mine.Sys().(*syscall.Stat_t)
	if ok1 && ok2 && (want.Uid != have.Uid || want.Gid != have.Gid) && f.Chown(int(want.Uid), int(want.Gid)) != nil {
		return fmt.Errorf("it belongs to user %d and group %d, which only root can keep: edit it as that user", want.Uid, want.Gid)
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	return copyACL(f, like)
}

func copyACL(f *os.File, like string) error {
	const attribute = "system.posix_acl_access"
	acl := make([]byte, 64<<10) // the longest that Linux has
	n, err := unix.Getxattr(like, attribute, acl)
	if err != nil { // none, or the file system has none
		_ = unix.Fremovexattr(int(f.Fd()), attribute) // that of the folder's default
		return nil                                    //nolint:nilerr // see above
	}
	if err := unix.Fsetxattr(int(f.Fd()), attribute, acl[:n], 0); err != nil {
		return fmt.Errorf("its access control list cannot be kept: %w", err)
	}
	return nil
}
