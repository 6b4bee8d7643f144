package main

import (
	"bytes"
	"strings"
	"testing"

	"extauthz/keystore"
)

// key hash refuses a secret that no request can carry, without repeating it.
func TestKeyHashRefuses(t *testing.T) {
	long := strings.Repeat("s", keystore.MaxSecretLen)
	for name, c := range map[string]struct{ secret, want string }{
		"plain":                 {"sk_secret", ""},
		"a line break":          {"sk_secret\n", ""},
		"a line break of DOS":   {"sk_secret\r\n", ""},
		"a space inside":        {"sk secret", ""},
		"UTF-8":                 {"sk_schlüssel", ""},
		"512 bytes":             {long + "\n", ""},
		"nothing":               {"\n", "no secret"},
		"513 bytes":             {long + "s", "longer than 512 bytes"},
		"much longer":           {strings.Repeat(long, 100), "longer than 512 bytes"},
		"a comma":               {"sk_sec,ret", "a comma"},
		"two lines":             {"sk_sec\nret\n", "a line break"},
		"two line breaks":       {"sk_secret\n\n", "a line break"},
		"a line break of a Mac": {"sk_secret\r", "a line break"},
		"a tab inside":          {"sk_sec\tret", "a control character"},
		"a NUL":                 {"sk_sec\x00ret", "a control character"},
		"a DEL":                 {"sk_sec\x7fret", "a control character"},
		"a space before":        {" sk_secret", "starts or ends with a space or a tab"},
		"a space after":         {"sk_secret \n", "starts or ends with a space or a tab"},
		"a tab after":           {"sk_secret\t\n", "starts or ends with a space or a tab"},
		"not UTF-8":             {"sk_sec\xffret", "not UTF-8"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"key", "hash"}, strings.NewReader(c.secret), &stdout, &stderr)
		switch {
		case c.want == "" && (code != 0 || stdout.String() != keystore.Secret(strings.TrimRight(c.secret, "\r\n")).Hash().String()+"\n"):
			t.Errorf("%s: exit code %d: %s%s", name, code, stdout.String(), stderr.String())
		case c.want != "" && (code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), c.want)):
			t.Errorf("%s: exit code %d: %s%s, want %q", name, code, stdout.String(), stderr.String(), c.want)
		case strings.Contains(stderr.String(), "sk_") || strings.Contains(stderr.String(), "ret\""):
			t.Errorf("%s: the secret is repeated: %s", name, stderr.String())
		}
	}
}
