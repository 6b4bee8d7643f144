package yamlfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"extauthz/files"
	"extauthz/strictyaml"
)

// keyFiles returns the paths of the key files at path, in order: path itself, or, if it is a
// folder, those in it, which may be none.
func keyFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".yaml" && ext != ".yml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(path, e.Name())
		if info, err := os.Stat(file); err != nil || !info.IsDir() {
			paths = append(paths, file)
		}
	}
	return paths, nil
}

// readFiles calls read for each key file at path and returns the results. If any of the files cannot
// be read, its error says why, for each.
func readFiles[T any](path string, read func(path string, in io.Reader) (T, error)) ([]T, error) {
	paths, err := keyFiles(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(paths) == 0 {
		return nil, strictyaml.Errors{{File: path, Message: "no *.yaml or *.yml file in this folder: put one there, with the line `keys: []` if no key may be used"}}
	}
	var results []T
	var errs strictyaml.Errors
	for _, p := range paths {
		f, err := files.Open(p)
		if err == nil && len(errs) == 0 {
			var result T
			result, err = read(p, f)
			results = append(results, result)
		}
		if err != nil {
			errs = append(errs, unreadable(p, err)...)
		}
		_ = f.Close() // which also takes nil
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return results, nil
}

func unreadable(path string, err error) strictyaml.Errors {
	if errors.Is(err, fs.ErrNotExist) {
		return strictyaml.Errors{{File: path, Message: "there is no such file: correct the path, or make a key with `extauthz key new --append " + path + "`"}}
	}
	return strictyaml.Errors{{File: path, Message: "cannot be read: " + files.Explain(path, err).Error()}}
}
