package examples_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/proctest"
)

// An example is a running story: what its README starts, and the requests that it then makes.
type example struct {
	dir      string // stands for the top of the tree
	programs []*proctest.Process
	curls    []curl
}

// A curl is one line of a README: a request, and what is said of its answer.
type curl struct {
	line   string
	url    *url.URL
	header http.Header
	source string // the address it is sent from; "" for any

	status int
	words  []string // that stand in the body
}

// start starts what a README starts, with ports and folders of its own, and waits until the
// first request is answered as the README says.
func start(t *testing.T, name string) *example {
	t.Helper()
	e := &example{dir: t.TempDir()}
	replace := replacer(t)
	e.copy(t, name, replace)
	background := 0
	for _, line := range commands(t, name) {
		words, comment := split(t, replace(line))
		switch command := words[0]; {
		case command == "make":
			checkTargets(t, words[1:])
		case command == "mkdir":
			if out, err := exec.CommandContext(t.Context(), command, words[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		case command == "curl":
			e.curls = append(e.curls, parseCurl(t, line, words[1:], comment))
		case command == "kill":
			if background = len(words) - 1; background != len(e.programs) {
				t.Fatalf("%s: the README started %d programs", line, len(e.programs))
			}
		case words[len(words)-1] == "&":
			e.programs = append(e.programs, e.run(t, words[:len(words)-1], replace))
		default:
			t.Fatalf("what does this line of the README do? %s", line)
		}
	}
	if background == 0 || len(e.curls) == 0 {
		t.Fatal("the README starts nothing that it ends, or asks nothing")
	}
	polltest.Until(t, e.curls[0].line, func() bool {
		for _, p := range e.programs {
			if !p.Running() {
				t.Fatal("a program has ended before the first request")
			}
		}
		status, body, err := e.curls[0].try()
		return err == nil && status == e.curls[0].status && len(e.curls[0].missing(body)) == 0
	})
	return e
}

// missing returns the words that the answer should have and does not.
func (c curl) missing(body string) []string {
	return slices.DeleteFunc(slices.Clone(c.words), func(word string) bool { return strings.Contains(body, word) })
}

// run starts a program as the README has it. What it leaves to the defaults, which are there
// once a machine, is added: the ports, and that Envoys do not take each other for successors.
func (e *example) run(t *testing.T, words []string, replace func(string) string) *proctest.Process {
	t.Helper()
	cmd := exec.Command(filepath.Join(e.dir, words[0]), words[1:]...)
	unless := func(given bool, args ...string) {
		if !given {
			cmd.Args = append(cmd.Args, args...)
		}
	}
	switch filepath.Base(words[0]) {
	case "envoy":
		unless(false, "--disable-hot-restart", "--log-level", "warning", "--concurrency", "1")
	case "upstream":
		unless(slices.Contains(words, "-listen"), "-listen", replace("127.0.0.1:8080"))
	case "extauthz":
		i := slices.Index(words, "--config")
		inFile := i > 0 && strings.Contains(readFile(t, filepath.Join(e.dir, words[i+1])), "\nlisten:")
		unless(inFile || slices.Contains(words, "--listen"), "--listen", replace("127.0.0.1:9191"))
		unless(slices.Contains(words, "--admin"), "--admin", replace("127.0.0.1:9192"))
	}
	cmd.Dir = e.dir
	return proctest.Start(t, filepath.Base(words[0]), cmd, nil)
}

// copy puts the story's folder and the programs where its README expects them.
func (e *example) copy(t *testing.T, name string, replace func(string) string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(e.dir, "examples", name)
	for _, dir := range []string{to, filepath.Join(e.dir, "bin"), filepath.Join(e.dir, ".tools")} {
		must(os.MkdirAll(dir, 0o755))
	}
	must(os.Symlink(harness.Extauthz(t), filepath.Join(e.dir, "bin/extauthz")))
	must(os.Symlink(harness.Binary(t, "examples/upstream"), filepath.Join(e.dir, "bin/upstream")))
	must(os.Symlink(harness.Envoy(t), filepath.Join(e.dir, ".tools/envoy")))
	files, err := os.ReadDir(name)
	must(err)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(name, f.Name()))
		must(err)
		must(os.WriteFile(filepath.Join(to, f.Name()), []byte(replace(string(text))), 0o644))
	}
}

// rewrite replaces a text in a file of the running example, by a rename as an editor would.
func (e *example) rewrite(t *testing.T, file, old, replacement string) {
	t.Helper()
	path := filepath.Join(e.dir, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("no %q in %s", old, file)
	}
	if err := os.WriteFile(path+".new", []byte(strings.ReplaceAll(string(text), old, replacement)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

var portsOfExamples = regexp.MustCompile(`\b(10000|919[1-4]|8080)\b`)

// replacer gives each port that the examples name another one, which is free, and their socket
// a folder of its own.
func replacer(t *testing.T) func(string) string {
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

// commands returns the lines of a README's one shell block.
func commands(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(name, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```sh\n")
	block, after, closed := strings.Cut(rest, "```\n")
	if !ok || !closed || strings.Contains(after, "```") {
		t.Fatalf("examples/%s/README.md does not have one ```sh block", name)
	}
	return strings.Split(strings.TrimSpace(block), "\n")
}

var shellWord = regexp.MustCompile(`'[^']*'|[^\s']+`)

// split takes a line of shell apart into its words and its comment. It knows single quotes.
func split(t *testing.T, line string) (words []string, comment string) {
	t.Helper()
	line, comment, _ = strings.Cut(line, " # ")
	for _, w := range shellWord.FindAllString(line, -1) {
		words = append(words, strings.Trim(w, "'"))
	}
	if len(words) == 0 || strings.ContainsAny(line, "\"\\$`|;") {
		t.Fatalf("the test cannot read this line of shell: %s", line)
	}
	return words, comment
}

var makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)

func checkTargets(t *testing.T, targets []string) {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(harness.Root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		known[m[1]] = true
	}
	for _, target := range targets {
		if !known[target] {
			t.Errorf("the Makefile has no target %s", target)
		}
	}
}

func parseCurl(t *testing.T, line string, words []string, comment string) curl {
	t.Helper()
	c := curl{line: line, header: http.Header{}}
	for i := 0; i < len(words); i++ {
		switch w := words[i]; w {
		case "-i", "-s", "--path-as-is": // the test always shows all and sends the path as it is
		case "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			c.header.Add(name, value)
		case "--interface":
			i++
			c.source = words[i]
		default:
			u, err := url.Parse("http://" + w)
			if err != nil || c.url != nil || strings.HasPrefix(w, "-") {
				t.Fatalf("the test does not know %q of curl: %s", w, line)
			}
			c.url = u
		}
	}
	want := strings.Fields(comment)
	if len(want) == 0 || c.url == nil {
		t.Fatalf("no URL, or no comment that begins with the status: %s", line)
	}
	status, err := strconv.Atoi(want[0])
	if err != nil {
		t.Fatalf("the comment does not begin with a status: %s", line)
	}
	c.status, c.words = status, want[1:]
	return c
}

func (c curl) try() (status int, body string, err error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if c.source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.source)}
	}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: polltest.Patience}).Do(&http.Request{Method: http.MethodGet, URL: c.url, Header: c.header})
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func (c curl) send(t *testing.T) (status int, body string) {
	t.Helper()
	status, body, err := c.try()
	if err != nil {
		t.Fatalf("%s: %v", c.line, err)
	}
	return status, body
}
