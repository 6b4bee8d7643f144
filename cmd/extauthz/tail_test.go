package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"extauthz/polltest"
)

func TestTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, file, config := filepath.Join(dir, "keys.yaml"), filepath.Join(dir, "decisions.log"), filepath.Join(dir, "extauthz.yaml")
	write(t, keys, keyFile(secretOne))
	write(t, config, local+"store: {yaml: {path: keys.yaml}}\ndecision_log: {path: decisions.log, allowed: 1}\n")
	p := serving(t, start(t, "serve", "--config", config))
	mustCheck(t, p.conn, secretOne, "11.1.2.3")
	polltest.Until(t, "a line", func() bool { info, err := os.Stat(file); return err == nil && info.Size() > 0 })

	all, some := start(t, "tail", "--config", config), start(t, "tail", file, "--key", "key_0", "--code", "forbidden", "--address", "11.0.0.0/8", "-n", "1")
	polltest.Until(t, "what is there is shown", func() bool {
		return strings.Contains(all.Log(), "FORBIDDEN") && strings.Contains(some.Log(), "FORBIDDEN")
	})
	for range 3 {
		mustCheck(t, p.conn, secretOne, "10.1.2.3")
		mustCheck(t, p.conn, secretOne, "12.1.2.3")
		mustCheck(t, p.conn, secretOther, "11.1.2.3")
		before := strings.Count(all.Log(), "\n")
		p.Signal(syscall.SIGHUP) // SIGHUP
		mustCheck(t, p.conn, secretOne, "11.9.9.9")
		polltest.Until(t, "what follows is shown", func() bool { return strings.Count(all.Log(), "\n") > before })
	}
	polltest.Until(t, "all is shown, over rotation", func() bool {
		text := all.Log()
		return strings.Count(text, "\n") == 13 && strings.Count(text, "VALID  ") == 3 && strings.Count(text, "NOT_FOUND") == 3
	})
	polltest.Until(t, "what was asked for is shown", func() bool { return strings.Count(some.Log(), "\n") == 4 })
	if text := some.Log(); strings.Contains(text, "12.1.2.3") || strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}

func TestTailStandardInput(t *testing.T) {
	in := `{"version":1,"type":"decision","time":"2027-01-31T23:59:59.000001Z","code":"VALID","allowed":true,"key_id":"key_a","would_refuse":true,"stale":true,"method":"GET","host":"h","path":"/\u001b[2J"}` +
		"\nlevel=INFO msg=something\n\n" +
		`{"version":1,"type":"dropped","time":"2027-01-31T23:59:59Z","since":"2027-01-31T23:59:58Z","dropped":7}` + "\n"
	out := command(t, in, "tail", "-")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.Contains(lines[0], "would_refuse stale") || !strings.Contains(lines[1], "7 decisions since") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	v := &tailView{show: func(*decisionLine) bool { return true }, color: true}
	if got := v.format([]byte(`{"type":"decision","code":"FORBIDDEN"}`)); !strings.Contains(got, red+"FORBIDDEN") {
		t.Errorf("%q", got)
	}
}

// With a filter, the whole file is searched, however long ago the decision was made.
func TestTailSearchesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.log")
	line := func(key, code string) string {
		return `{"version":1,"type":"decision","time":"2027-01-31T23:59:59.000001Z","code":"` + code + `","key_id":"` + key + `","path":"/` + strings.Repeat("x", 1000) + `"}` + "\n"
	}
	write(t, file, line("key_old", "DISABLED")+strings.Repeat(line("key_new", "VALID"), 5000)+line("key_new", "EXPIRED"))
	if out := command(t, "", "tail", file, "--follow=false", "--key", "key_old"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "DISABLED") {
		t.Errorf("%.300q", out)
	}
	if out := command(t, "", "tail", file, "--follow=false", "-n", "3", "--key", "key_new"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "EXPIRED") {
		t.Errorf("%.300q", out)
	}
	if out := command(t, "", "tail", file, "--follow=false", "-n", "2"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "EXPIRED") {
		t.Errorf("%.300q", out)
	}
}

// Lines are in color on a terminal alone, unless NO_COLOR is set.
func TestTailColors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.log")
	write(t, file, `{"version":1,"type":"decision","time":"2027-01-31T23:59:59.000001Z","code":"FORBIDDEN"}`+"\n")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	onTerminal := func(env ...string) string {
		cmd := exec.CommandContext(t.Context(), "script", "-qec", self+" tail "+file+" --follow=false", "/dev/null")
		cmd.Env = append(os.Environ(), append(env, asBinary+"=1")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := onTerminal(); !strings.Contains(out, red+"FORBIDDEN") {
		t.Errorf("on a terminal: %q", out)
	}
	for where, out := range map[string]string{"with NO_COLOR": onTerminal("NO_COLOR=1"), "in a pipe": command(t, "", "tail", file, "--follow=false")} {
		if !strings.Contains(out, "FORBIDDEN") || strings.Contains(out, "\x1b") {
			t.Errorf("%s: %q", where, out)
		}
	}
}

func TestTailRefusesDevices(t *testing.T) {
	p := start(t, "tail", "/dev/zero")
	if code := p.Wait(); code != 1 || !strings.Contains(p.Log(), "is a device") {
		t.Errorf("%d: %s", code, p.Log())
	}
}
