package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"

	"extauthz/keystore/yamlfile"
)

// A keyText is the text of a key file, to be read once.
type keyText struct {
	io.ReadCloser
	name string
	size int64 // in bytes; -1 where it shows only at the end
}

// openKeyText opens the key file at a path, or standard input where that is "-".
func openKeyText(path string, stdin io.Reader) (*keyText, error) {
	if path != "-" {
		// Before it is opened: opening a pipe waits for who writes to it.
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if err := yamlfile.CheckFile(info); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return newKeyText(path, f)
	}
	const name = "standard input"
	f, ok := stdin.(*os.File)
	if !ok || term.IsTerminal(int(f.Fd())) {
		return &keyText{io.NopCloser(stdin), name, -1}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := yamlfile.CheckFile(info); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	text, err := newKeyText(name, f)
	if err == nil {
		text.ReadCloser = io.NopCloser(text.ReadCloser)
	}
	return text, err
}

func newKeyText(name string, f *os.File) (*keyText, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return &keyText{f, name, -1}, nil
	}
	at, err := f.Seek(0, io.SeekCurrent) // a shell may have read some of it
	if err != nil {
		return nil, err
	}
	return &keyText{steadyFile{f, info}, name, info.Size() - at}, nil
}

// A steadyFile is a file that has to be at its end as it was at the start. One that others
// write to would be taken for a shorter one, or for a mix of two.
type steadyFile struct {
	*os.File
	before fs.FileInfo
}

func (f steadyFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	switch after, statErr := f.Stat(); {
	case statErr != nil:
		return n, statErr
	case after.Size() != f.before.Size() || !after.ModTime().Equal(f.before.ModTime()):
		return n, errors.New("it changed while it was read: import it again")
	}
	return n, err
}
