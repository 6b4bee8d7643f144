package importer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"extauthz/files"
)

// A File is an open key file, which is read once, from its start to its end.
type File struct {
	io.ReadCloser
	Name string // for messages
	Size int64  // in bytes; -1 if it is not known before the end
}

// Open opens the key file at path. If path is "-", it returns stdin, which Close leaves open.
func Open(path string, stdin io.Reader) (*File, error) {
	if path != "-" {
		return openPath(path)
	}
	const name = "standard input"
	f, ok := stdin.(*os.File)
	if !ok || term.IsTerminal(int(f.Fd())) {
		return &File{io.NopCloser(stdin), name, -1}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := files.Check(info); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file, err := newFile(name, f)
	if err == nil {
		file.ReadCloser = io.NopCloser(file.ReadCloser)
	}
	return file, err
}

func openPath(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	open := files.Open
	if info.Mode()&fs.ModeNamedPipe != 0 {
		open = openPipe
	}
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return newFile(path, f)
}

// pipeTimeout is how long to wait for data from a named pipe.
const pipeTimeout = 3 * time.Second

// openPipe opens a named pipe, and waits for a writer.
func openPipe(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // otherwise this waits for a writer
	if err != nil {
		return nil, files.Explain(path, err)
	}
	if err := awaitInput(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// awaitInput waits until f can be read.
func awaitInput(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for end := time.Now().Add(pipeTimeout); ; {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("it is a named pipe, and nothing was written to it within %s: start the writer first, or use `--from -`", pipeTimeout)
		}
		ready := 0
		if ctlErr := conn.Control(func(fd uintptr) {
			ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1) //nolint:gosec // a descriptor is small
		}); ctlErr != nil {
			return ctlErr
		}
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ready > 0:
			return nil
		}
	}
}

func newFile(name string, f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return &File{f, name, -1}, nil
	}
	offset, err := f.Seek(0, io.SeekCurrent) // a shell may have read the start of it
	if err != nil {
		return nil, err
	}
	return &File{unchangedFile{f, info}, name, info.Size() - offset}, nil
}

// An unchangedFile returns an error at the end of a file whose size or modification time has changed
// since its start. A file that is written while it is read would yield some of its keys, or a mix of
// old and new ones.
type unchangedFile struct {
	*os.File
	before fs.FileInfo
}

func (f unchangedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	switch after, statErr := f.Stat(); {
	case statErr != nil:
		return n, statErr
	case after.Size() != f.before.Size() || !after.ModTime().Equal(f.before.ModTime()):
		return n, errors.New("the file changed while it was read: import it again")
	}
	return n, err
}
