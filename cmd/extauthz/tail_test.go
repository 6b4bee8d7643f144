package main

import (
	"os"
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
