package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"extauthz/keystore"
)

// callTimeout is how long a command waits for one answer of a remote store.
const callTimeout = 30 * time.Second

func countKeys(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

func wereKeys(n int) string {
	if n == 1 {
		return "1 key was"
	}
	return countKeys(n) + " were"
}

// aboutKey adds the key's id to an error that does not name the key.
func aboutKey(id string, err error) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("there is no key %q: `extauthz key list` shows the keys", id)
	}
	return err
}

// keyJSON returns the key as list and show print it in JSON, without its hashes. The names are those of
// the key file; broken says why a record is refused.
func keyJSON(k *keystore.Key) ([]byte, error) {
	shown := *k
	shown.Previous.Hash = keystore.Hash{}
	return keystore.EncodeKey(&shown)
}

// oneLine returns the error's text without its line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
