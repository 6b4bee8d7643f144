// Package hookstest tests the hooks in C, outside of the module: a test program with the hooks in it would call Go
// while it exits, where the race detector allows no calls.
package hookstest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The hooks neither leak, nor use memory that was freed or is not theirs, nor race, whenever a stream ends.
func TestHooks(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"memory":  {"-fsanitize=address,undefined", "-fno-sanitize-recover=all"},
		"threads": {"-fsanitize=thread"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "hooks")
			args := append([]string{"-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-I", "testdata", "-o", program, "testdata/hooks_test.c", "-lpthread"}, flags...)
			if out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
				t.Fatalf("gcc: %v\n%s", err, out)
			}
			if out, err := exec.CommandContext(t.Context(), program).CombinedOutput(); err != nil || string(out) != "done\n" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
