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

// eachFile returns what read makes of every key file at path, or all that is wrong with reading
// them.
func eachFile[T any](path string, read func(path string) (T, error)) ([]T, error) {
	paths, err := files(path)
	if err != nil {
		return nil, err
	}
	var all []T
	var wrong strictyaml.Errors
	for _, p := range paths {
		one, err := read(p)
		if err != nil {
			wrong = append(wrong, unreadable(p, err)...)
		}
		all = append(all, one)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return all, nil
}

// readFile returns the text of a key file.
func readFile(path string) (source, error) {
	f, err := strictyaml.Open(path)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return source{path, data}, err
}

func unreadable(path string, err error) strictyaml.Errors {
	if errors.Is(err, fs.ErrNotExist) {
		return strictyaml.Errors{{File: path, Message: "there is no such file: correct the path, or make a key with `extauthz key new --append " + path + "`"}}
	}
	return strictyaml.Errors{{File: path, Message: "cannot be read: " + strictyaml.Explain(path, err).Error()}}
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
	return newSet(files, &set{}, nil)
}

// file reads the key file at path.
func (s scanner) file(path string) (scan, error) {
	f, err := strictyaml.Open(path)
	if err != nil {
		return scan{}, err
	}
	defer f.Close()
	return s.scan(path, f)
}
