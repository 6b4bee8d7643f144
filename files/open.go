// Package files opens, watches, locks and replaces the operator's files: configurations and key
// files. Its errors describe the obstacle, and what to do about it.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Read returns the contents of the file at path. Its errors are those of [Open].
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Open opens the file at path for reading. It refuses what [Check] does, and a named pipe, which
// may have no writer; the pipes of a shell, such as those of <(command), have one. Its errors do
// not contain path. An error for lack of permission contains the user, and the owner and mode of
// the obstacle.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, Explain(path, err)
	}
	if err := Check(info); err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeNamedPipe != 0 && !isAnonymousPipe(path) {
		return nil, errors.New("it is a named pipe, which may never have a writer: name a file")
	}
	// The flag has no effect on a file. It is for a pipe that has just replaced the file.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Explain(path, err)
	}
	return f, nil
}

// Check returns an error if what info describes has no contents to read from start to end: a
// folder, a device, or a socket.
func Check(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return errors.New("it is a folder: name a file in it")
	case mode&fs.ModeDevice != 0:
		return errors.New("it is a device: name a file")
	case mode&fs.ModeSocket != 0:
		return errors.New("it is a socket: name a file")
	}
	return nil
}

// isAnonymousPipe reports whether path refers to an anonymous pipe, as /dev/fd/N may.
func isAnonymousPipe(path string) bool {
	const pipefsMagic = 0x50495045 // PIPEFS_MAGIC of linux/magic.h
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && int64(fs.Type) == pipefsMagic //nolint:unconvert // its type depends on the system
}

// Explain returns err, the error of reading the file or folder at path, without the path. An error
// for lack of permission contains the user and the obstacle.
func Explain(path string, err error) error {
	err = withoutPath(err)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	path, info := obstacle(path)
	switch {
	case info == nil:
		return err
	case info.IsDir():
		return denied("the folder "+path, info, 0o555, "read and search it", err)
	}
	return denied("it", info, 0o444, "read it", err)
}

// ExplainWrite returns err, the error of replacing or creating the file at path, without paths and with
// advice.
func ExplainWrite(path string, err error) error {
	err = withoutPath(err)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return explanation{"it is a mount point, and cannot be replaced: mount its folder, and name the file in it", err}
	case errors.Is(err, syscall.EROFS):
		return explanation{"the file system is read-only: edit the file where it comes from, such as the ConfigMap", err}
	case errors.Is(err, fs.ErrPermission):
		if folder, info := obstacle(filepath.Dir(path)); info != nil {
			return denied("the folder "+folder, info, 0o777, "create files in it, for a file is replaced as a whole", err)
		}
	}
	return err
}

func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	if linkErr, ok := errors.AsType[*os.LinkError](err); ok {
		return linkErr.Err
	}
	return err
}

// An explanation is an error with another text.
type explanation struct {
	text  string
	cause error
}

func (e explanation) Error() string { return e.text }
func (e explanation) Unwrap() error { return e.cause }

// denied explains an error for lack of permission. what is the obstacle, enough the permissions that
// suffice for anyone, and need what the user must be able to do.
func denied(what string, info fs.FileInfo, enough fs.FileMode, need string, cause error) error {
	user := fmt.Sprintf("user %d", os.Geteuid())
	text := fmt.Sprintf("permission denied for %s: %s belongs to %s, and its mode is %04o: ", user, what, owner(info), info.Mode().Perm())
	if info.Mode().Perm()&enough == enough {
		text += "that allows it, so check the system's security policy, such as SELinux"
	} else {
		text += fmt.Sprintf("let %s %s, by chmod or chown", user, need)
	}
	return explanation{text, cause}
}

// obstacle returns the file or folder that prevents access to path: the nearest folder that cannot
// be searched, or otherwise the target of path.
func obstacle(path string) (string, fs.FileInfo) {
	for range 40 { // links, as many as the system follows
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	for {
		if info, err := os.Stat(path); err == nil {
			return path, info
		}
		parent := filepath.Dir(path)
		if parent == path {
			return path, nil
		}
		path = parent
	}
}

func owner(info fs.FileInfo) string {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("user %d and group %d", sys.Uid, sys.Gid)
	}
	return "another user"
}
