package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"extauthz/keystore"
)

var errNoSecret = errors.New("standard input holds no secret: write one to it, such as with `printf %s \"$SECRET\" |`")

// readSecret reads a secret to its end, without the line break that an editor or echo adds. Of
// one that is too long for any key it returns only so much that it still is.
func readSecret(r io.Reader) (keystore.Secret, error) {
	b, err := io.ReadAll(io.LimitReader(r, keystore.MaxSecretLen+3))
	if err != nil {
		return "", fmt.Errorf("reading the secret from standard input: %w", err)
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if len(b) == 0 {
		return "", errNoSecret
	}
	return keystore.Secret(b), nil
}

// usable says why no key can have the secret, or nil.
func usable(s keystore.Secret) error {
	switch {
	case len(s) > keystore.MaxSecretLen:
		return fmt.Errorf("the secret is longer than %d bytes, so no key can have it: use a shorter one", keystore.MaxSecretLen)
	case strings.Contains(string(s), ","):
		return errors.New("the secret holds a comma, so no key can have it: a header that was sent twice looks the same")
	}
	return nil
}
