package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// Faults of keys and of their users.
var keyFaults = []fault{
	{
		name:     "a key was disabled",
		sections: map[string][]string{"Callers get 401": {"DISABLED", "enabled       false"}},
		scene:    keyDisabled,
		during:   1,
	},
	{
		name:     "an address is not in the whitelist",
		sections: map[string][]string{"Callers get 403": {"FORBIDDEN", "127.0.0.9", "client_address_from=peer"}},
		scene:    addressNotListed,
		during:   1,
	},
	{
		name:     "Envoy appends no address",
		alerts:   []string{"ExtauthzClientAddressUnknown"},
		sections: map[string][]string{"Callers get 403": {"FORBIDDEN", "no address: ", "client_address_error="}},
		scene:    noAddress,
	},
	{
		name:     "a limit is spent",
		sections: map[string][]string{"Callers get 429": {"RATE_LIMITED", "requests: 2 in 1h"}},
		scene:    limitSpent,
		during:   1,
	},
	{
		name:     "a flood of unknown secrets",
		alerts:   []string{"ExtauthzFlood"},
		sections: map[string][]string{"A flood of refusals": {" 127.0.0.1", `extauthz_decisions_total{code="NOT_FOUND"}`}},
		scene:    flood,
		during:   4,
	},
	{
		name:     "a key expires",
		alerts:   []string{"ExtauthzKeysExpire"},
		sections: map[string][]string{"Keys expire": {"key_listed", "expires"}},
		scene:    keyExpires,
	},
	{
		name:     "a key was stolen",
		sections: map[string][]string{"A key was stolen": {"VALID 127.0.0.1"}},
		scene:    keyStolen,
		during:   1,
	},
}

// works waits until a request with the secret has this status.
func works(t *testing.T, front string, secret keystore.Secret, from string, status int) {
	t.Helper()
	polltest.Until(t, "the key works as it should", func() bool {
		return send(t, front, call{header: headers("X-Api-Key", string(secret)), from: from}).status == status
	})
}

func keyDisabled(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.key = "key_disabled"
	front := s.through(t, gateway{}, string(disabled))
	s.mended = func() { works(t, front, disabled, "", 200) }
	return s
}

func addressNotListed(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.address = "127.0.0.9"
	front := s.through(t, gateway{}, string(listed))
	s.fail = func() {
		s.load = func() {
			send(t, front, call{header: headers("X-Api-Key", string(listed)), from: s.address})
		}
	}
	s.mended = func() { works(t, front, listed, s.address, 200) }
	return s
}

func noAddress(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys, Config: "client_address: {from: x_forwarded_for, trusted_hops: 1}\n"})
	edge := s.through(t, gateway{Edge: true}, string(open))
	s.load = func() { send(t, edge, call{header: headers("X-Api-Key", string(open), "X-Forwarded-For", "10.1.2.3")}) }
	s.fail = func() { s.through(t, gateway{}, string(listed)) } // one without use_remote_address
	return s
}

func limitSpent(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: "keys:\n" + record("key_metered", metered, twoAnHour)})
	s.key = "key_metered"
	s.through(t, gateway{}, string(metered))
	return s
}

func flood(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	c := newChecked(t, s.Server)
	valid := func() { c.flood(t, 20, open, "/") }
	s.load = valid
	s.fail = func() { // 17,000 within five minutes are more than 50 a second
		s.load = func() {
			c.flood(t, 17_000, unknownSecret, "/")
			s.load = valid
		}
	}
	return s
}

func keyExpires(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.through(t, gateway{}, string(listed))
	s.fail = func() {
		s.command(t, "key", "expire", "key_listed", "3d")
		polltest.Until(t, "it is counted", func() bool { return s.has(`extauthz_keys_expiring{within="7d"} 1`) })
	}
	return s
}

func keyStolen(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	front := s.through(t, gateway{}, string(listed))
	s.mended = func() {
		works(t, front, listed, "", 401)
		secret, err := os.ReadFile(filepath.Join(s.Dir, "key_listed.secret"))
		if err != nil {
			t.Fatal(err)
		}
		works(t, front, keystore.Secret(strings.TrimSpace(string(secret))), "", 200)
	}
	return s
}
