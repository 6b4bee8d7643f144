package redis

import (
	"fmt"

	"extauthz/keystore"
)

// encode returns the record of a key, the same bytes for equal keys; or what is wrong with the key.
// The hash is the name that the record is stored under, so it is not in it.
func encode(k *keystore.Key) (string, error) {
	err := k.Validate()
	if err == nil {
		err = k.Broken
	}
	var record []byte
	if err == nil {
		record, err = keystore.EncodeKey(k)
	}
	if err != nil {
		return "", fmt.Errorf("key %s: %w", k.ID, err)
	}
	return string(record), nil
}
