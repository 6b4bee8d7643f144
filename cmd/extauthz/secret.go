package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"extauthz/keystore"
)

var errNoSecret = errors.New("standard input holds no secret: pipe one into it, such as with `printf %s \"$SECRET\" |`")

// readSecret reads a secret up to the end of r, without the line break that an editor or echo adds.
// A secret that is too long for any key is truncated, but stays too long.
func readSecret(r io.Reader) (keystore.Secret, error) {
	b, err := io.ReadAll(io.LimitReader(r, keystore.MaxSecretLen+3))
	if err != nil {
		return "", fmt.Errorf("reading the secret from standard input: %w", err)
	}
	if line, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b = bytes.TrimSuffix(line, []byte("\r"))
	}
	if len(b) == 0 {
		return "", errNoSecret
	}
	return keystore.Secret(b), nil
}

// checkSecret returns an error if no key can have the secret, because no request can carry it or
// because the server reads it as two. The error does not contain the secret.
func checkSecret(s keystore.Secret) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	text := string(s)
	switch {
	case len(s) > keystore.MaxSecretLen:
		return fmt.Errorf("the secret is longer than %d bytes, so no key can have it: use a shorter one", keystore.MaxSecretLen)
	case strings.Contains(text, ","):
		return errors.New("the secret contains a comma, so no key can have it: a header that was sent twice looks the same")
	case strings.ContainsAny(text, "\r\n"):
		return errors.New("the secret contains a line break, which no request can carry: write only the secret, on one line")
	case strings.Trim(text, " \t") != text:
		return errors.New("the secret starts or ends with a space or a tab, which HTTP removes: remove it")
	case strings.ContainsFunc(text, isControl):
		return errors.New("the secret contains a control character, which no request can carry: use a secret of printable characters")
	case !utf8.ValidString(text):
		return errors.New("the secret is not UTF-8, and Envoy changes such bytes: use a secret of printable characters")
	}
	return nil
}
