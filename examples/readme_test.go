package examples_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"extauthz/e2e/harness"
)

// runREADME pastes a README's shell blocks, and compares every response with the comment after its curl
// command: `# 403 FORBIDDEN` is a status, then words of the response. It returns the shell's output.
func (tr *tree) runREADME(t *testing.T, path string, options ...string) (shown string) {
	t.Helper()
	text := strings.Join(shellBlocks(t, path), "")
	checkTargets(t, text)
	p := tr.paste(t, text+"true\n", options...)
	if code := p.Wait(); code != 0 {
		t.Fatalf("the shell ended with %d", code)
	}
	tr.checkGone(t)
	if m := envoyLogLine.FindString(p.Log()); m != "" {
		t.Errorf("Envoy's log stands between the answers: %s", m)
	}
	lines, answers := curlLines(text), tr.answers(t)
	if len(lines) != len(answers) {
		t.Fatalf("%d curls in %s, and %d were run", len(lines), path, len(answers))
	}
	checked := 0
	for i, line := range lines {
		want := parseExpectation(line)
		if want.status == 0 {
			continue
		}
		checked++
		if answers[i].status != want.status || len(want.missing(answers[i])) > 0 {
			t.Errorf("%s\ngot %d, and no %q in\n%s", line, answers[i].status, want.missing(answers[i]), answers[i].text)
		}
	}
	if checked == 0 {
		t.Errorf("%s says of no curl what it gets", path)
	}
	return p.Log()
}

var envoyLogLine = regexp.MustCompile(`(?m)^\[[^\n]*\]\[(trace|debug|info|warning|error)\].*$`)

// shellBlocks returns a README's ```sh blocks.
func shellBlocks(t *testing.T, path string) (blocks []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^( *)```sh\n(.*?\n) *```$").FindAllStringSubmatch(readFile(t, path), -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")[1:]) // a list's block is indented
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no ```sh block", path)
	}
	return blocks
}

// curlLines returns the lines that call curl.
func curlLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "curl ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// An expectation is the comment after a curl command. Its zero value expects nothing.
type expectation struct {
	status int
	words  []string
}

func parseExpectation(line string) expectation {
	_, comment, _ := strings.Cut(line, " # ")
	words := strings.Fields(comment)
	if len(words) == 0 {
		return expectation{}
	}
	status, err := strconv.Atoi(words[0])
	if err != nil {
		return expectation{}
	}
	return expectation{status, words[1:]}
}

// missing returns the words that are missing in the response.
func (e expectation) missing(a answer) []string {
	return slices.DeleteFunc(slices.Clone(e.words), func(word string) bool { return strings.Contains(a.text, word) })
}

var makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)

// checkTargets checks that the targets of make in a block are in the Makefile.
func checkTargets(t *testing.T, text string) {
	t.Helper()
	known := map[string]bool{}
	for _, m := range makeTarget.FindAllStringSubmatch(readFile(t, filepath.Join(harness.Root(t), "Makefile")), -1) {
		known[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^make ([a-z -]+)`).FindAllStringSubmatch(text, -1) {
		for target := range strings.FieldsSeq(m[1]) {
			if !known[target] {
				t.Errorf("the Makefile has no target %s", target)
			}
		}
	}
}
