package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"extauthz/keystore"
)

// version returns what a page shows of a key, in short, so that a form can detect whether the key
// has changed since the page was made.
func version(k *keystore.Key) string {
	c := k.Clone()
	list := make([]string, 0, len(c.Whitelist.Prefixes()))
	for _, p := range c.Whitelist.Prefixes() {
		list = append(list, p.String())
	}
	broken := ""
	if c.Broken != nil {
		broken = c.Broken.Error()
	}
	b, err := json.Marshal([]any{
		c.ID, c.Name, c.Hash.String(), c.Whitelist.Restricted(), list, c.WhitelistMode, c.Enabled, c.Expires.UTC(), c.ExternalID,
		c.Previous.Hash.String(), c.Previous.Until.UTC(), c.Permissions, c.Roles, c.Ratelimits, string(c.Meta), broken,
	})
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}
