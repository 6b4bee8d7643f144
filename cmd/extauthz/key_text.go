package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"extauthz/keystore"
)

// callTimeout is how long a command waits for one answer of a store across the network.
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

// aboutKey says of which key an error is, where that is not said yet.
func aboutKey(id string, err error) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("there is no key %q: `extauthz key list` shows those there are", id)
	}
	return err
}

// A listedKey is a key as list and show print it in JSON; the names are those of the key file.
type listedKey struct {
	ID          string            `json:"id"`
	Name        string            `json:"name,omitempty"`
	Enabled     bool              `json:"enabled"`
	Expires     *time.Time        `json:"expires,omitempty"`
	IPWhitelist []string          `json:"ip_whitelist,omitempty"` // absent: from anywhere
	ExternalID  string            `json:"external_id,omitempty"`
	Permissions []string          `json:"permissions,omitempty"`
	Roles       []string          `json:"roles,omitempty"`
	Ratelimits  []listedRatelimit `json:"ratelimits,omitempty"`
	Meta        json.RawMessage   `json:"meta,omitempty"`
	Broken      string            `json:"broken,omitempty"` // why the record refuses
}

type listedRatelimit struct {
	Name      string `json:"name"`
	Limit     int64  `json:"limit"`
	Duration  string `json:"duration"`
	AutoApply bool   `json:"auto_apply"`
}

func newListedKey(k *keystore.Key) listedKey {
	l := listedKey{
		ID: k.ID, Name: k.Name, Enabled: k.Enabled, IPWhitelist: whitelistEntries(k),
		ExternalID: k.ExternalID, Permissions: k.Permissions, Roles: k.Roles, Meta: k.Meta,
	}
	if !k.Expires.IsZero() {
		l.Expires = &k.Expires
	}
	for _, r := range k.Ratelimits {
		l.Ratelimits = append(l.Ratelimits, listedRatelimit{r.Name, r.Limit, r.Duration.String(), !r.OnDemand})
	}
	if k.Broken != nil {
		l.Broken = k.Broken.Error()
	}
	return l
}

// oneLine returns the error's text without its line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
