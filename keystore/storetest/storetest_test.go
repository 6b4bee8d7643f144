package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"extauthz/keystore"
)

func TestMemory(t *testing.T) {
	open := func(*testing.T) Backend { return NewMemory() }
	Run(t, open)
	RunWatcher(t, open)
	RunCount(t, NewMemory())
}

// This test fails for a new field of a key until FullKey sets it and Describe includes it, so that the tests of
// every store cover it.
func TestEveryFieldIsTested(t *testing.T) {
	full := FullKey("key_full")
	v := reflect.ValueOf(full).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Broken" {
			continue
		}
		if v.Field(i).IsZero() != (name == "Enabled") { // whose default is true
			t.Errorf("FullKey does not set %s", name)
		}
	}
	for name, change := range map[string]func(*keystore.Key){
		"ID":            func(k *keystore.Key) { k.ID = "key_other" },
		"Name":          func(k *keystore.Key) { k.Name = "" },
		"Hash":          func(k *keystore.Key) { k.Hash[0] ^= 1 },
		"Whitelist":     func(k *keystore.Key) { k.Whitelist = keystore.Anywhere() },
		"WhitelistMode": func(k *keystore.Key) { k.WhitelistMode = keystore.Enforce },
		"Enabled":       func(k *keystore.Key) { k.Enabled = true },
		"Expires":       func(k *keystore.Key) { k.Expires = time.Time{} },
		"Previous":      func(k *keystore.Key) { k.Previous.Hash[0] = 1 },
		"ExternalID":    func(k *keystore.Key) { k.ExternalID = "" },
		"Permissions":   func(k *keystore.Key) { k.Permissions = nil },
		"Roles":         func(k *keystore.Key) { k.Roles = nil },
		"Ratelimits":    func(k *keystore.Key) { k.Ratelimits = nil },
		"Meta":          func(k *keystore.Key) { k.Meta = nil },
		"Broken":        func(k *keystore.Key) { k.Broken = errors.New("why") },
	} {
		changed := full.Clone()
		if change(changed); Describe(changed) == Describe(full) {
			t.Errorf("Describe does not show %s", name)
		}
		if _, ok := v.Type().FieldByName(name); !ok {
			t.Errorf("a key has no field %s", name)
		}
	}
	if n := v.NumField(); n != 14 {
		t.Errorf("a key has %d fields, and 14 are changed here", n)
	}
}
