package yamlfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"extauthz/strictyaml"
)

// A source is the text of one key file.
type source struct {
	path string
	data []byte
}

// files returns the paths of the key files at path, in order: path itself, or those in the
// folder that it is.
func files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	var paths []string
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		if !isKeyFile(e.Name()) {
			continue
		}
		// What a link leads to counts, and one that leads nowhere is an error in time.
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		paths = append(paths, file)
	}
	if len(paths) == 0 {
		return nil, strictyaml.Errors{{File: path, Message: "no *.yaml or *.yml file in this folder: put one there, with the line `keys: []` if no key may be used"}}
	}
	return paths, nil
}

func isKeyFile(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// read returns the text of every key file at path, or all that is wrong with reading them.
func read(path string) ([]source, error) {
	paths, err := files(path)
	if err != nil {
		return nil, err
	}
	var sources []source
	var wrong strictyaml.Errors
	for _, p := range paths {
		data, err := readFile(p)
		if err != nil {
			wrong = append(wrong, unreadable(p, err)...)
			continue
		}
		sources = append(sources, source{p, data})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return sources, nil
}

func readFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// openFile opens a file but for a device, which may have no end.
func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path) // before it is opened: that may take a while, for a pipe
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return nil, errors.New("it is a device: name a file")
	}
	return os.Open(path)
}

func unreadable(path string, err error) strictyaml.Errors {
	if errors.Is(err, fs.ErrNotExist) {
		return strictyaml.Errors{{File: path, Message: "there is no such file: correct the path, or make a key with `extauthz key new --append " + path + "`"}}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return strictyaml.Errors{{File: path, Message: "cannot be read: " + err.Error()}}
}

// load reads all the sources. Its error is the [strictyaml.Errors] of all of them.
func load(sources []source) (*set, error) {
	files := make([]scan, len(sources))
	for i, s := range sources {
		var err error
		if files[i], err = (scanner{}).scan(s.path, bytes.NewReader(s.data)); err != nil {
			return nil, err
		}
	}
	return newSet(files, &set{}, pacer{})
}

// scanFiles reads the key files at path, or returns all that is wrong with reading them.
func scanFiles(path string, s scanner) ([]scan, error) {
	paths, err := files(path)
	if err != nil {
		return nil, err
	}
	var all []scan
	var wrong strictyaml.Errors
	for _, p := range paths {
		f, err := scanFile(p, s)
		if err != nil {
			wrong = append(wrong, unreadable(p, err)...)
		}
		all = append(all, f)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return all, nil
}

func scanFile(path string, s scanner) (scan, error) {
	f, err := openFile(path)
	if err != nil {
		return scan{}, err
	}
	defer f.Close()
	return s.scan(path, f)
}
