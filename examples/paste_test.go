package examples_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/proctest"
)

// A tree is a copy of the repository's root for the shell blocks of one README. They run in bash unchanged,
// except for the ports, which are free ones.
type tree struct {
	dir     string
	notes   string                   // records of the programs in the tree
	replace func(text string) string // with the tree's own ports and folders
}

// newTree copies the folders of examples, and installs the programs where the READMEs expect them.
func newTree(t *testing.T, replace func(string) string, examples ...string) *tree {
	t.Helper()
	tr := &tree{dir: t.TempDir(), notes: t.TempDir(), replace: replace}
	for _, name := range examples {
		files, err := os.ReadDir(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			tr.write(t, filepath.Join("examples", name, f.Name()), replace(readFile(t, filepath.Join(name, f.Name()))), 0o644)
		}
	}
	// What the programs leave to their defaults, which a machine has once, is added: ports, and that
	// no Envoy takes another one for its predecessor.
	tr.program(t, "bin/extauthz", harness.Extauthz(t), replace(`if [ "$1" = serve ]; then
	[[ " $* " = *" --admin "* ]] || grep -qs '^admin:' -- "$@" || set -- "$@" --admin 127.0.0.1:9192
	[[ " $* " = *" --listen "* ]] || grep -qs '^listen:' -- "$@" || set -- "$@" --listen 127.0.0.1:9191
fi`))
	tr.program(t, "bin/upstream", harness.Binary(t, "examples/upstream"),
		replace(`[[ " $* " = *" -listen "* ]] || set -- "$@" -listen 127.0.0.1:8080`))
	tr.program(t, ".tools/envoy", harness.Envoy(t), `[[ " $* " = *" --disable-hot-restart "* ]] || set -- "$@" --disable-hot-restart --concurrency 1`)

	if slices.Contains(examples, insideEnvoy) {
		if err := os.Symlink(harness.Module(t), filepath.Join(tr.dir, "bin", "libextauthz.so")); err != nil {
			t.Fatal(err)
		}
	}

	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is missing: run make test, which installs it")
	}
	tr.script(t, "path/curl", fmt.Sprintf(`out=$(mktemp %s/curl.XXXXXX); echo "$out" >> %[1]s/curls
%s -D "$out.head" "$@" | tee "$out"; exit "${PIPESTATUS[0]}"`, tr.notes, curl))
	tr.script(t, "path/sleep", `exec /bin/sleep "$((5 * $1))" # a busy machine takes longer`)
	tr.script(t, "path/make", "exit 0")   // checkTargets checks its targets
	tr.script(t, "path/docker", "exit 0") // checkDocker checks its arguments
	return tr
}

// program makes path a program in the tree. It records its process id, and ends with its parent.
func (tr *tree) program(t *testing.T, path, binary, arguments string) {
	t.Helper()
	tr.script(t, path, fmt.Sprintf("%s\necho $$ >> %s/%s\nexec setpriv --pdeathsig KILL %s \"$@\"", arguments, tr.notes, filepath.Base(path), binary))
}

func (tr *tree) script(t *testing.T, path, text string) {
	t.Helper()
	tr.write(t, path, "#!/bin/bash\n"+text+"\n", 0o755)
}

func (tr *tree) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	path = filepath.Join(tr.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces a string in a file of the tree, by a rename as an editor would.
func (tr *tree) rewrite(t *testing.T, file, old, replacement string) {
	t.Helper()
	text := readFile(t, filepath.Join(tr.dir, file))
	if !strings.Contains(text, old) {
		t.Fatalf("no %q in %s", old, file)
	}
	tr.write(t, file+".new", strings.ReplaceAll(text, old, replacement), 0o644)
	if err := os.Rename(filepath.Join(tr.dir, file+".new"), filepath.Join(tr.dir, file)); err != nil {
		t.Fatal(err)
	}
}

// paste sends the text to a shell as one input, like a paste into a terminal. With the option -e, the shell
// exits when a command fails.
func (tr *tree) paste(t *testing.T, text string, options ...string) *proctest.Process {
	t.Helper()
	cmd := exec.Command("bash", options...)
	cmd.Dir = tr.dir
	cmd.Stdin = strings.NewReader(tr.replace(text))
	cmd.Env = []string{"PATH=" + filepath.Join(tr.dir, "path") + ":" + os.Getenv("PATH"), "HOME=" + tr.dir, "LC_ALL=C.UTF-8"}
	return proctest.Start(t, "the README's shell", cmd, nil)
}

// pids returns the process ids of a program, in the order in which they were started.
func (tr *tree) pids(t *testing.T, program string) (pids []int) {
	t.Helper()
	for line := range strings.Lines(readFile(t, filepath.Join(tr.notes, program))) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// checkGone fails the test if a program of the tree still runs.
func (tr *tree) checkGone(t *testing.T) {
	t.Helper()
	for _, program := range []string{"extauthz", "upstream", "envoy"} {
		for _, pid := range tr.pids(t, program) {
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("%s still runs after the README's last line", program)
			}
		}
	}
}

// An answer is the response to one curl command of a README.
type answer struct {
	status int
	text   string // header and body
}

// answers returns the response to every curl command, in order.
func (tr *tree) answers(t *testing.T) (answers []answer) {
	t.Helper()
	for file := range strings.Lines(readFile(t, filepath.Join(tr.notes, "curls"))) {
		file = strings.TrimSpace(file)
		head, err := os.ReadFile(file + ".head")
		if err != nil { // no answer at all
			answers = append(answers, answer{})
			continue
		}
		a := answer{text: string(head) + readFile(t, file)}
		for _, m := range statusLine.FindAllStringSubmatch(string(head), -1) { // the last of several attempts
			a.status, _ = strconv.Atoi(m[1])
		}
		answers = append(answers, a)
	}
	return answers
}

var (
	statusLine      = regexp.MustCompile(`(?m)^HTTP/\S+ (\d+)`)
	portsOfExamples = regexp.MustCompile(`\b(1000[01]|919[1-6]|8080)\b`)
)

// ownPorts replaces each port in the examples with a free one, and the folder of their socket.
func ownPorts(t *testing.T) func(string) string {
	t.Helper()
	ports := map[string]string{}
	sockets := filepath.Join(t.TempDir(), "s")
	return func(text string) string {
		text = strings.ReplaceAll(text, "/tmp/extauthz-example", sockets)
		return portsOfExamples.ReplaceAllStringFunc(text, func(port string) string {
			if ports[port] == "" {
				_, ports[port], _ = net.SplitHostPort(harness.FreeAddr(t))
			}
			return ports[port]
		})
	}
}
