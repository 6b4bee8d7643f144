package redis

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/redis/rueidis"

	"extauthz/keystore"
)

// encode returns the record of a key, the same bytes for equal keys, or an error if the key is
// invalid. The record does not contain the hash, which is part of its name.
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

// encodeAll returns the records of keys.
func encodeAll(keys []*keystore.Key) ([]string, error) {
	records := make([]string, len(keys))
	for i, k := range keys {
		var err error
		if records[i], err = encode(k); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// maxPointer is longer than any pointer, even with white space, and shorter than most records.
const maxPointer = 128

// parsePointer returns the hash of the record that a pointer refers to, if m is a pointer.
func parsePointer(m *rueidis.RedisMessage) (current keystore.Hash, ok bool) {
	data, err := m.AsBytes()
	if err != nil || len(data) > maxPointer || !bytes.Contains(data, []byte(`"current"`)) {
		return keystore.Hash{}, false
	}
	var p struct{ Current, ID string }
	if json.Unmarshal(data, &p) != nil || p.ID != "" {
		return keystore.Hash{}, false
	}
	current, err = keystore.ParseHash(p.Current)
	return current, err == nil
}

func isPointer(m *rueidis.RedisMessage) bool {
	_, ok := parsePointer(m)
	return ok
}
