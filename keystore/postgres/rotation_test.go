package postgres

import (
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// SQL cannot give a secret to two keys. If concurrent transactions did, it belongs to the key whose current
// secret it is.
func TestSecretOfTwoKeysInSQL(t *testing.T) {
	db := freshDatabase(t, server)
	s := open(t, Options{DSN: server.URL(db, server.Addr())})
	rotated, other := storetest.RotatedKey("key_a"), storetest.NewKey("key_b")
	must(t, s.Put(t.Context(), []*keystore.Key{rotated, other}))
	for _, sql := range []string{
		`UPDATE extauthz.keys SET hash = (SELECT previous_hash FROM extauthz.keys WHERE id = 'key_a') WHERE id = 'key_b'`,
		`UPDATE extauthz.keys SET previous_hash = (SELECT hash FROM extauthz.keys WHERE id = 'key_a') WHERE id = 'key_b'`,
		`UPDATE extauthz.keys SET previous_hash = (SELECT hash FROM extauthz.keys WHERE id = 'key_b') WHERE id = 'key_a'`,
		`UPDATE extauthz.keys SET previous_hash = (SELECT previous_hash FROM extauthz.keys WHERE id = 'key_a') WHERE id = 'key_b'`,
		`INSERT INTO extauthz.keys (id, hash) SELECT 'key_c', previous_hash FROM extauthz.keys WHERE id = 'key_a'`,
		`INSERT INTO extauthz.keys (id, hash, previous_hash) SELECT 'key_c', sha256('c'), hash FROM extauthz.keys WHERE id = 'key_a'`,
	} {
		if _, err := s.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "23505") {
			t.Errorf("%s: error %v, want unique_violation", sql, err)
		}
	}
	server.Exec(t, db, `ALTER TABLE extauthz.keys DISABLE TRIGGER check_update;
		UPDATE extauthz.keys SET previous_hash = (SELECT hash FROM extauthz.keys WHERE id = 'key_b') WHERE id = 'key_a'`)
	k, err := s.Lookup(t.Context(), other.Hash)
	must(t, err)
	if k.ID != other.ID {
		t.Errorf("found %s by a hash that it had before", k.ID)
	}
}

func TestCount(t *testing.T) {
	s := openFresh(t)
	var _ keystore.Counter = s
	storetest.RunCount(t, s)
}
