package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

type keyExportFlags struct {
	configFlags
	to string
}

func newKeyExportCommand() *cobra.Command {
	f := &keyExportFlags{}
	cmd := &cobra.Command{
		Use:   "export [--to FILE|-]",
		Short: "Write the keys of a store as a key file",
		Long: `Write all keys, with their hashes and in the order of their ids, as a key file: a backup that
extauthz key import can read.

A key whose record cannot be read is left out and reported on standard error, and the exit code
is 1. An incomplete file is never left behind, and an existing file is never overwritten.`,
		Example: `  extauthz key export --config extauthz.yaml --to keys.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.to, "to", "-", "the file to write, or - for standard output")
	_ = cmd.MarkFlagFilename("to", "yaml", "yml")
	return cmd
}

func (f *keyExportFlags) run(cmd *cobra.Command) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	e, err := backend.OpenEditor(cmd.Context(), cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer e.Close()
	if f.to == "-" {
		_, err := exportKeys(cmd.Context(), e, cmd.OutOrStdout())
		return err
	}
	n := 0
	leftOut, err := newFile(f.to, func(w io.Writer) (err error) {
		n, err = exportKeys(cmd.Context(), e, w)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s exported to %s\n", wereKeys(n), f.to)
	return errors.Join(leftOut, err)
}

// A leftOutError holds the errors of the keys that an export left out; all others were written.
type leftOutError []error

func (e leftOutError) Error() string { return errors.Join(e...).Error() }

func (e leftOutError) Unwrap() []error { return e }

// exportKeys writes all keys and returns how many. Its error is a leftOutError if only some keys
// could not be written.
func exportKeys(ctx context.Context, e keystore.Editor, to io.Writer) (n int, err error) {
	w := bufio.NewWriterSize(to, 64<<10)
	var leftOut leftOutError
	for k, err := range e.Keys(ctx, "") {
		if err != nil {
			return n, err
		}
		text, err := yamlfile.MarshalKey(k)
		if err != nil {
			leftOut = append(leftOut, fmt.Errorf("left out: %w", err))
			continue
		}
		if n++; n == 1 {
			_, _ = w.WriteString("keys:\n")
		}
		if _, err := w.Write(text); err != nil {
			return n, err
		}
	}
	if n == 0 {
		_, _ = w.WriteString("keys: []\n")
	}
	if err := w.Flush(); err != nil || leftOut == nil {
		return n, err
	}
	return n, leftOut
}

// newFile creates a file that only its owner can read, with the content that write writes. If write
// fails, no file is left, unless write only left out keys: newFile returns that error as leftOut.
func newFile(path string, write func(io.Writer) error) (leftOut, err error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: already exists: remove it, or write another name", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if _, ok := errors.AsType[leftOutError](err); ok {
		leftOut, err = err, nil
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return leftOut, err
}
