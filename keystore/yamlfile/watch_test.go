package yamlfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// keys returns a key file with these ids.
func keys(ids ...string) string {
	var b strings.Builder
	b.WriteString("keys:\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "  - id: %s\n    hash: %s\n", id, storetest.SecretOf(id).Hash())
	}
	return b.String()
}

func ids(s *Store) string {
	var ids []string
	for _, k := range s.current.Load().all() {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func becomes(t *testing.T, s *Store, want string) {
	t.Helper()
	polltest.Until(t, want, func() bool { return ids(s) == want })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reloads records the calls of OnReload.
type reloads struct {
	mu  sync.Mutex
	all []Reload
}

func (r *reloads) add(one Reload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

// failed reports whether a reload after the first n failed with this text in its error.
func (r *reloads) failed(n int, part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all[min(n, len(r.all)):], func(l Reload) bool { return l.Err != nil && strings.Contains(l.Err.Error(), part) })
}

// begun returns the number of failures that did not repeat the previous one.
func (r *reloads) begun() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.all {
		if l.Err != nil && !l.Repeated {
			n++
		}
	}
	return n
}

func (r *reloads) last() Reload {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[len(r.all)-1]
}

func (r *reloads) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// watch opens the store at path and follows its files until the test ends.
func watch(t *testing.T, path string, opts Options) (*Store, *reloads) {
	t.Helper()
	calls := new(reloads)
	opts.OnReload = calls.add
	s, err := Open(path, opts)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Watch(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	return s, calls
}

// configMap creates a folder in the way that Kubernetes mounts a ConfigMap, or swaps its contents.
func configMap(t *testing.T, dir, version, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, version), 0o700))
	write(t, filepath.Join(dir, version, "keys.yaml"), text)
	must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if _, err := os.Lstat(filepath.Join(dir, "keys.yaml")); err != nil {
		must(t, os.Symlink("..data/keys.yaml", filepath.Join(dir, "keys.yaml")))
	}
}

func rename(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".tmp", text)
	must(t, os.Rename(path+".tmp", path))
}

func TestWatch(t *testing.T) {
	for _, opts := range []Options{{}, {pollOnly: true}} {
		t.Run(fmt.Sprintf("pollOnly=%t", opts.pollOnly), func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(t *testing.T, dir string, opts Options){
				"write":            watchWrite,
				"rename":           watchRename,
				"editor":           watchEditor,
				"ConfigMap":        watchConfigMap,
				"ConfigMap folder": watchConfigMapFolder,
				"link":             watchLink,
				"folder":           watchFolder,
				"folder replaced":  watchFolderReplaced,
				"git-sync":         watchGitSync,
				"vanished":         watchVanished,
				"bad":              watchBad,
				"same size, time":  watchSameSizeAndTime,
				"unreadable":       watchUnreadable,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, t.TempDir(), opts)
				})
			}
		})
	}
}

func watchWrite(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	s, _ := watch(t, path, opts)
	for _, want := range []string{"a b", "b", "a c"} {
		write(t, path, keys(strings.Fields(want)...))
		becomes(t, s, want)
	}
}

func watchRename(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	s, _ := watch(t, path, opts)
	for _, want := range []string{"b", "c", "d"} {
		rename(t, path, keys(want))
		becomes(t, s, want)
	}
}

// watchEditor: some editors move the file away before they write a new one.
func watchEditor(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	s, _ := watch(t, path, opts)
	for _, want := range []string{"b", "c"} {
		must(t, os.Rename(path, path+"~"))
		write(t, path, keys(want))
		becomes(t, s, want)
	}
}

func watchConfigMap(t *testing.T, dir string, opts Options) {
	configMap(t, dir, "..v1", keys("a"))
	s, _ := watch(t, filepath.Join(dir, "keys.yaml"), opts)
	configMap(t, dir, "..v2", keys("b"))
	becomes(t, s, "b")
	must(t, os.RemoveAll(filepath.Join(dir, "..v1")))
	configMap(t, dir, "..v3", keys("c"))
	becomes(t, s, "c")
}

func watchConfigMapFolder(t *testing.T, dir string, opts Options) {
	configMap(t, dir, "..v1", keys("a"))
	s, _ := watch(t, dir, opts)
	configMap(t, dir, "..v2", keys("b"))
	becomes(t, s, "b")
}

func watchLink(t *testing.T, dir string, opts Options) {
	link := filepath.Join(t.TempDir(), "link.yaml")
	one, two := filepath.Join(dir, "one"), filepath.Join(t.TempDir(), "two")
	write(t, one, keys("a"))
	write(t, two, keys("b"))
	must(t, os.Symlink(one, link))
	s, _ := watch(t, link, opts)
	write(t, one, keys("aa"))
	becomes(t, s, "aa")
	must(t, os.Symlink(two, link+".tmp"))
	must(t, os.Rename(link+".tmp", link))
	becomes(t, s, "b")
	rename(t, two, keys("bb"))
	becomes(t, s, "bb")
}

func watchFolder(t *testing.T, dir string, opts Options) {
	one, two := filepath.Join(dir, "one.yaml"), filepath.Join(dir, "two.yml")
	write(t, one, keys("a"))
	write(t, filepath.Join(dir, ".hidden.yaml"), "not: keys")
	write(t, filepath.Join(dir, "README"), "not keys")
	must(t, os.Mkdir(filepath.Join(dir, "folder.yaml"), 0o700))
	s, calls := watch(t, dir, opts)
	write(t, two, keys("b"))
	becomes(t, s, "a b")
	must(t, os.Remove(one))
	becomes(t, s, "b")
	must(t, os.Rename(two, filepath.Join(dir, "three.yaml")))
	write(t, two, keys("c"))
	becomes(t, s, "b c")
	n := calls.count()
	must(t, os.Remove(two))
	must(t, os.Remove(filepath.Join(dir, "three.yaml")))
	polltest.Until(t, "an error", func() bool { return calls.failed(n, "no *.yaml or *.yml file") })
	if ids(s) == "" {
		t.Error("an empty folder took all keys away")
	}
}

func watchFolderReplaced(t *testing.T, dir string, opts Options) {
	folder := func(name, id string) string {
		path := filepath.Join(dir, name)
		must(t, os.Mkdir(path, 0o700))
		write(t, filepath.Join(path, "keys.yaml"), keys(id))
		return path
	}
	path := folder("current", "a")
	s, _ := watch(t, path, opts)
	for _, id := range []string{"b", "c"} {
		next := folder("next-"+id, id)
		must(t, os.Rename(path, filepath.Join(dir, "old-"+id)))
		must(t, os.Rename(next, path))
		becomes(t, s, id)
		write(t, filepath.Join(path, "keys.yaml"), keys(id, id+"2"))
		becomes(t, s, id+" "+id+"2")
	}
}

// git-sync replaces a link to the folder of a revision, above the folder of the file.
func watchGitSync(t *testing.T, dir string, opts Options) {
	link := filepath.Join(dir, "current")
	revision := func(id string) {
		folder := filepath.Join(dir, ".worktrees", id, "prod")
		must(t, os.MkdirAll(folder, 0o700))
		write(t, filepath.Join(folder, "keys.yaml"), keys(id))
		must(t, os.Symlink(filepath.Join(".worktrees", id), link+".tmp"))
		must(t, os.Rename(link+".tmp", link))
	}
	revision("a")
	s, _ := watch(t, filepath.Join(link, "prod", "keys.yaml"), opts)
	for _, id := range []string{"b", "c"} {
		revision(id)
		becomes(t, s, id)
	}
}

func TestWatchRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "keys.yaml", keys("a"))
	s, _ := watch(t, "keys.yaml", Options{})
	write(t, "keys.yaml", keys("b", "c"))
	becomes(t, s, "b c")
}

func watchVanished(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "sub", "keys.yaml")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	write(t, path, keys("a"))
	s, calls := watch(t, path, opts)
	must(t, os.RemoveAll(filepath.Dir(path)))
	polltest.Until(t, "an error", func() bool { return calls.failed(0, "there is no such file") })
	if ids(s) != "a" {
		t.Errorf("the keys are %q, want the last good ones", ids(s))
	}
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	write(t, path, keys("b"))
	becomes(t, s, "b")
}

func watchSameSizeAndTime(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	info, err := os.Stat(path)
	must(t, err)
	s, _ := watch(t, path, opts)
	for _, want := range []string{"b", "c"} {
		write(t, path, keys(want))
		must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		becomes(t, s, want)
	}
}

// watchUnreadable: a file that cannot be read is retried until it can be, without a change.
func watchUnreadable(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	s, calls := watch(t, path, opts)
	must(t, os.Remove(path))
	must(t, os.Symlink(path, path)) // a link to itself: the error is neither about the text nor about absence
	polltest.Until(t, "an error", func() bool { return calls.failed(0, "too many levels of symbolic links") })
	n := calls.count()
	polltest.Until(t, "more attempts", func() bool { return calls.count() > n+1 })
	rename(t, path, keys("a")) // the text in use
	polltest.Until(t, "success", func() bool { last := calls.last(); return last.Err == nil && !last.Repeated })
	if begun := calls.begun(); begun != 1 || ids(s) != "a" {
		t.Errorf("%d failures, keys %q", begun, ids(s))
	}
}

// watchBad: a file that is bad, empty or half-written leaves the keys as they are.
func watchBad(t *testing.T, dir string, opts Options) {
	path := filepath.Join(dir, "keys.yaml")
	write(t, path, keys("a"))
	s, calls := watch(t, path, opts)
	for text, want := range map[string]string{
		"":             "the file is empty",
		"keys:\n":      "nothing where the list of keys is expected",
		"keys: [":      "not YAML",
		"keys: [{}]\n": "a key without an id",
	} {
		n := calls.count()
		write(t, path, text)
		polltest.Until(t, want, func() bool { return calls.failed(n, want) })
		if ids(s) != "a" {
			t.Fatalf("%q: the keys are %q, want the last good ones", text, ids(s))
		}
	}
	text := keys("b", "c")
	n := calls.count()
	write(t, path, text[:len(text)-20])
	polltest.Until(t, "an error", func() bool { return calls.failed(n, "hash has 45 characters") })
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text[len(text)-20:])
	must(t, errors.Join(err, f.Close()))
	becomes(t, s, "b c")
}

// Changes between Open and Watch are detected.
func TestWatchLate(t *testing.T) {
	s, path := open(t, keys("a"), Options{})
	write(t, path, keys("b"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.Watch(ctx, nil) // ends with the test
	becomes(t, s, "b")
}

func TestWatcher(t *testing.T) {
	storetest.RunWatcher(t, func(t *testing.T) storetest.Backend {
		s, _ := open(t, "keys: []\n", Options{})
		return s
	})
}

// A write that changes nothing causes no reload.
func TestSameText(t *testing.T) {
	var calls reloads
	s, path := open(t, keys("a"), Options{OnReload: calls.add})
	for _, state := range []struct {
		text  string
		count int
	}{{keys("a"), 0}, {keys("b"), 1}, {keys("b"), 1}, {keys("a"), 2}} {
		rename(t, path, state.text)
		must(t, s.reload(false))
		if n := calls.count(); n != state.count {
			t.Errorf("%d reloads so far, want %d", n, state.count)
		}
	}
}

func TestReload(t *testing.T) {
	var calls reloads
	s, path := open(t, keys("a"), Options{OnReload: calls.add})
	must(t, s.Reload())
	write(t, path, "keys: [")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "keys.yaml:1:1: not YAML") {
		t.Errorf("got %v", err)
	}
	write(t, path, keys("a", "b"))
	must(t, s.Reload())
	if got := calls.all; len(got) != 3 || got[0].Keys != 1 || got[1].Keys != 1 || got[1].Err == nil || got[2].Keys != 2 || got[2].Duration <= 0 {
		t.Errorf("got %+v", got)
	}
}

// Readers see the keys of one state of the file or of the next, never a mix.
func TestReloadIsWhole(t *testing.T) {
	state := func(name string) string {
		var b strings.Builder
		for i := range 130 {
			fmt.Fprintf(&b, "  - id: key_%d\n    hash: %s\n    name: state %s\n", i, storetest.SecretOf(fmt.Sprint(i)).Hash(), name)
		}
		return "keys:\n" + b.String()
	}
	s, path := open(t, state("0"), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				names := make(map[string]bool)
				for _, k := range s.current.Load().all() {
					names[k.Name] = true
				}
				if len(names) != 1 || s.Len() != 130 {
					t.Errorf("names %v of %d keys", names, s.Len())
				}
				if _, err := s.Lookup(ctx, storetest.SecretOf("7").Hash()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 30 {
		rename(t, path, state(fmt.Sprint(i+1)))
		must(t, s.Reload())
	}
	cancel()
	readers.Wait()
	if k, err := s.Lookup(t.Context(), storetest.SecretOf("7").Hash()); err != nil || k.Name != "state 30" {
		t.Errorf("got %v, error %v", k, err)
	}
	if _, err := s.Lookup(t.Context(), keystore.Hash{}); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got error %v", err)
	}
}
