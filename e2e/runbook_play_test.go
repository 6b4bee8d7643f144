package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/polltest"
)

// runbook returns the blocks of commands in each section of docs/runbook.md.
func runbook(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string][]string)
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(body, -1) {
			pages[title] = append(pages[title], block[1])
		}
		if pages[title] == nil {
			t.Errorf("the section %q of the runbook has no commands", title)
		}
	}
	return pages
}

// play runs the commands of one section as a person on call would: block by block, in the folder of the
// configuration. The first block must print everything in says, once the server has detected the fault.
func (s *scene) play(t *testing.T, title string, blocks, says []string) {
	t.Helper()
	if len(blocks) == 0 {
		t.Errorf("the runbook has no section %q with commands", title)
	}
	for i, block := range blocks {
		if i > 0 {
			s.shell(t, title, block)
			continue
		}
		polltest.NoError(t, func() error {
			out := s.shell(t, title, block)
			for _, want := range says {
				if !strings.Contains(out, want) {
					return fmt.Errorf("runbook, %s: no %q in\n%s", title, want, out)
				}
			}
			return nil
		})
	}
}

// misused matches the error message for a wrong command line.
var misused = regexp.MustCompile(`unknown (flag|command|shorthand)|required flag|not found|unbound variable|syntax error|Usage:|DATA RACE`)

// shell runs a block of commands and returns their output. Each command must exist. The exit code of
// extauthz may be 1, which some commands use to report a finding.
func (s *scene) shell(t *testing.T, title, block string) string {
	t.Helper()
	bin, log, codes := t.TempDir(), s.log, filepath.Join(t.TempDir(), "codes")
	if log == "" {
		log = s.Log()
	}
	writeFile(t, filepath.Join(bin, "server.log"), log)
	wrapper := fmt.Sprintf("#!/bin/sh\n%q \"$@\"\ncode=$?\necho $code >> %q\nexit $code\n", harness.Extauthz(t), codes)
	if err := os.WriteFile(filepath.Join(bin, "extauthz"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-uc", block)
	cmd.Dir = s.Dir
	cmd.Env = append(
		os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "ADMIN="+s.Admin, "LOG=cat "+filepath.Join(bin, "server.log"),
		"PID="+strconv.Itoa(s.Pid()), "KEY="+s.key, "ADDRESS="+s.address,
	)
	text, err := cmd.CombinedOutput()
	out := string(text)
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if m := misused.FindString(out); m != "" {
		t.Errorf("runbook, %s: %s\n%s\n%s", title, m, block, out)
	}
	list, err := os.ReadFile(codes)
	if err != nil && strings.Contains(block, "extauthz ") {
		t.Errorf("runbook, %s: no extauthz was run\n%s", title, out)
	}
	for code := range strings.FieldsSeq(string(list)) {
		if code != "0" && code != "1" {
			t.Errorf("runbook, %s: exit code %s\n%s\n%s", title, code, block, out)
		}
	}
	return out
}
