package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Lock locks a file or a folder, which need not exist yet, against other callers of Lock, also in
// other processes, until unlock is called. It waits for them until ctx ends. The lock is a hidden
// file next to the file, or in the folder.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".lock")
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		name = filepath.Join(target, ".keys.lock")
	}
	l := flock.New(name, flock.SetPermissions(0o600))
	_, err = l.TryLockContext(ctx, 5*time.Millisecond)
	switch {
	case err == nil:
		return func() { _ = l.Unlock() }, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: another program holds the lock %s: %w", path, name, err)
	}
	return nil, notWritten(name, err)
}

// Resolve returns the file or folder that path refers to, following links, or path itself if it does
// not exist yet.
func Resolve(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a broken link: correct it, or remove it", path)
		}
		return path, nil
	}
	return target, err
}
