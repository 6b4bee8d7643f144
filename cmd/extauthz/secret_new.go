package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"extauthz/keystore"
)

func newSecret(prefix string) (keystore.Secret, error) {
	if err := keystore.ValidateSecretPrefix(prefix); err != nil {
		return "", fmt.Errorf("--prefix: %q is %w", prefix, err)
	}
	return keystore.NewSecret(prefix), nil
}

// writeSecretFile writes the secret to a new file that only its owner can read. When it returns
// nil, the file is on the disk; otherwise there is no file.
func writeSecretFile(path string, secret keystore.Secret) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--secret-file: %s already exists, and may hold the secret of another key: no key was created; write another name", path)
	}
	if err != nil {
		return fmt.Errorf("--secret-file: %w", err)
	}
	_, err = io.WriteString(f, string(secret))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("--secret-file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// writeOut writes the text to an output of the program, and returns an error unless all of it is
// on the disk, for a file, or the pipe has a reader.
func writeOut(w io.Writer, text string) error {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE) // otherwise a closed pipe ends the process
	defer signal.Stop(broken)
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return f.Sync()
}

// takeBack deletes a key whose secret was not delivered, if it was added. It works even after ctx
// is done.
func takeBack(ctx context.Context, e keystore.Editor, k *keystore.Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	stored, err := e.Key(ctx, k.ID)
	if err == nil && stored.Hash == k.Hash {
		err = e.Delete(ctx, k.ID)
	}
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("%s was added and could not be deleted, and nobody has its secret: `extauthz key delete %s`: %w", k.ID, k.ID, err)
}
