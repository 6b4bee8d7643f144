package postgres

import (
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// A row that cannot be read completely refuses its key, is reported, and does not affect others.
func TestBrokenRows(t *testing.T) {
	for name, tt := range map[string]struct {
		sql  string // about key_bad
		says string
	}{
		"empty whitelist":         {`UPDATE extauthz.keys SET ip_whitelist = '{}'`, "ip_whitelist: "},
		"NULL in the whitelist":   {`UPDATE extauthz.keys SET ip_whitelist = '{10.0.0.0/8,NULL}'`, "ip_whitelist: NULL"},
		"only NULL":               {`UPDATE extauthz.keys SET ip_whitelist = '{NULL}'`, "ip_whitelist: NULL"},
		"the last entry is gone":  {`UPDATE extauthz.keys SET ip_whitelist = array_remove(ip_whitelist, '10.0.0.0/8')`, "ip_whitelist: "},
		"external id":             {`UPDATE extauthz.keys SET external_id = E'a\r\nx-admin: 1'`, "external_id: "},
		"name":                    {`UPDATE extauthz.keys SET name = E'a\nb'`, "name: "},
		"mode":                    {`UPDATE extauthz.keys SET ip_whitelist_mode = 'Report'`, "ip_whitelist_mode: "},
		"empty mode":              {`UPDATE extauthz.keys SET ip_whitelist_mode = ''`, "ip_whitelist_mode: "},
		"short previous hash":     {`UPDATE extauthz.keys SET previous_hash = '\x00', previous_until = '2100-01-01'`, "previous_hash: 1 bytes"},
		"zero previous hash":      {`UPDATE extauthz.keys SET previous_hash = decode(repeat('00', 32), 'hex'), previous_until = '2100-01-01'`, "previous: hash"},
		"own previous hash":       {`UPDATE extauthz.keys SET previous_hash = hash, previous_until = '2100-01-01'`, "previous: hash"},
		"previous without end":    {`UPDATE extauthz.keys SET previous_hash = sha256('old')`, "previous: until"},
		"end without previous":    {`UPDATE extauthz.keys SET previous_until = '2100-01-01'`, "previous: hash"},
		"previous for ever":       {`UPDATE extauthz.keys SET previous_hash = sha256('old'), previous_until = 'infinity'`, "previous_until: infinity"},
		"infinity":                {`UPDATE extauthz.keys SET expires = 'infinity'`, "expires: infinity"},
		"-infinity":               {`UPDATE extauthz.keys SET expires = '-infinity'`, "expires: -infinity"},
		"Go's zero time":          {`UPDATE extauthz.keys SET expires = '0001-01-01 00:00:00+00'`, "expires: the first moment"},
		"NULL permission":         {`UPDATE extauthz.keys SET permissions = '{a,NULL}'`, "permissions: NULL"},
		"bad permission":          {`UPDATE extauthz.keys SET permissions = '{a b}'`, "permissions: "},
		"NULL role":               {`UPDATE extauthz.keys SET roles = '{NULL}'`, "roles: NULL"},
		"no list of limits":       {`UPDATE extauthz.keys SET ratelimits = '{"name": "a"}'`, "ratelimits: "},
		"null limits":             {`UPDATE extauthz.keys SET ratelimits = 'null'`, "ratelimits: null"},
		"a null limit":            {`UPDATE extauthz.keys SET ratelimits = '[null]'`, "ratelimits: "},
		"unknown field":           {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "limit": 1, "duration": "1m", "burst": 2}]'`, "ratelimits: "},
		"limit as text":           {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "limit": "1", "duration": "1m"}]'`, "ratelimits: "},
		"limit beyond 63 bits":    {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "limit": 9223372036854775808, "duration": "1m"}]'`, "ratelimits: "},
		"no limit":                {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "duration": "1m"}]'`, "ratelimits: "},
		"duration":                {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "limit": 1, "duration": "1 minute"}]'`, "ratelimits: duration"},
		"two in one row":          {`UPDATE extauthz.keys SET ip_whitelist = '{}', external_id = ' a'`, "external_id: "},
		"whitelist of other type": {`DROP INDEX extauthz.keys_ip_whitelist; ALTER TABLE extauthz.keys ALTER ip_whitelist TYPE text USING CASE WHEN id = 'key_bad' THEN '10.0.0.0/8' END`, "ip_whitelist: "},
		"two of one limit":        {`UPDATE extauthz.keys SET ratelimits = '[{"name": "a", "limit": 1, "duration": "1m"}, {"name": "a", "limit": 2, "duration": "1m"}]'`, "ratelimits: "},
	} {
		t.Run(name, func(t *testing.T) {
			var reported []string
			db := freshDatabase(t, server)
			s := open(t, Options{DSN: server.URL(db, server.Addr()), OnBroken: func(id string, err error) { reported = append(reported, id+": "+err.Error()) }})
			bad, good := storetest.NewKey("key_bad", "10.0.0.0/8"), storetest.NewKey("key_good")
			must(t, s.Put(t.Context(), []*keystore.Key{bad, good}))
			sql := tt.sql
			if strings.HasPrefix(sql, "UPDATE") {
				sql += ` WHERE id = 'key_bad'`
			}
			server.Exec(t, db, sql)

			k, err := s.Lookup(t.Context(), bad.Hash)
			must(t, err)
			refusesAll(t, k)
			if k.ID != bad.ID || !k.Enabled || !strings.Contains(k.Broken.Error(), tt.says) {
				t.Errorf("id %s, enabled %t, broken: %v; want %q in it", k.ID, k.Enabled, k.Broken, tt.says)
			}
			if len(reported) != 1 || !strings.HasPrefix(reported[0], "key_bad: ") {
				t.Errorf("OnBroken was called with %q, want key_bad once", reported)
			}
			k, err = s.Key(t.Context(), bad.ID)
			must(t, err)
			refusesAll(t, k)
			k, err = s.Lookup(t.Context(), good.Hash)
			must(t, err)
			if k.Broken != nil || k.Whitelist.Restricted() {
				t.Errorf("the other key: broken: %v", k.Broken)
			}
			var ids []string
			for k, err := range s.Keys(t.Context(), "") {
				must(t, err)
				ids = append(ids, k.ID)
			}
			if len(ids) != 2 {
				t.Errorf("%q are listed, want both", ids)
			}
		})
	}
}

func refusesAll(t *testing.T, k *keystore.Key) {
	t.Helper()
	if k.Broken == nil || !k.Whitelist.Restricted() || len(k.Whitelist.Prefixes()) > 0 {
		t.Errorf("broken: %v, whitelist %v; want a broken key that refuses everyone", k.Broken, k.Whitelist.Prefixes())
	}
}

// Values that SQL can write in several ways are read like those of a key file.
func TestRowsWrittenBySQL(t *testing.T) {
	db := freshDatabase(t, server)
	s := open(t, Options{DSN: server.URL(db, server.Addr())})
	server.Exec(t, db, `INSERT INTO extauthz.keys (id, hash, ip_whitelist, permissions, ratelimits, expires) VALUES
		('key_a', sha256('a'), '{10.0.0.0/8,::ffff:192.0.2.0/120,2001:db8::7}', '{}', '[]', '2027-01-31 12:00+02'),
		('key_b', sha256('b'), NULL, '{}', '[{"name": "a", "limit": 1e2, "duration": "1h", "auto_apply": true}]', NULL)`)
	a, err := s.Lookup(t.Context(), keystore.Secret("a").Hash())
	must(t, err)
	if want := storetest.Whitelist("10.0.0.0/8", "192.0.2.0/24", "2001:db8::7"); a.Broken != nil || !a.Whitelist.Equal(want) {
		t.Errorf("broken: %v, whitelist %v", a.Broken, a.Whitelist.Prefixes())
	}
	if !a.Enabled || a.Expires.Format("15:04 MST") != "10:00 UTC" || len(a.Permissions)+len(a.Ratelimits) > 0 {
		t.Errorf("%+v", a)
	}
	b, err := s.Lookup(t.Context(), keystore.Secret("b").Hash())
	must(t, err)
	if b.Broken != nil || b.Whitelist.Restricted() || len(b.Ratelimits) != 1 || b.Ratelimits[0].Limit != 100 || b.Ratelimits[0].OnDemand {
		t.Errorf("%+v", b)
	}
}

// A record that cannot be read is not partly written back.
func TestUpdateOfABrokenKey(t *testing.T) {
	db := freshDatabase(t, server)
	s := open(t, Options{DSN: server.URL(db, server.Addr())})
	k := storetest.NewKey("key_a", "10.0.0.0/8")
	must(t, s.Add(t.Context(), k))
	server.Exec(t, db, `UPDATE extauthz.keys SET ratelimits = '{"limit": 1}'`)
	edit := func(change func(*keystore.Key)) error {
		return s.Update(t.Context(), k.ID, func(k *keystore.Key) error { change(k); return nil })
	}
	if err := edit(func(k *keystore.Key) { k.Whitelist = keystore.Anywhere() }); err == nil || !strings.Contains(err.Error(), "ratelimits") {
		t.Errorf("error %v, want what is wrong with the row", err)
	}
	must(t, edit(func(k *keystore.Key) { k.Enabled = false }))
	got, err := s.Key(t.Context(), k.ID)
	must(t, err)
	refusesAll(t, got)
	if got.Enabled {
		t.Error("the key is still enabled")
	}
	server.Exec(t, db, `UPDATE extauthz.keys SET ratelimits = NULL`)
	got, err = s.Key(t.Context(), k.ID)
	must(t, err)
	if got.Broken != nil || !got.Whitelist.Equal(k.Whitelist) || got.Enabled {
		t.Errorf("mended: %+v", got)
	}

	server.Exec(t, db, `UPDATE extauthz.keys SET ratelimits = '1'`)
	must(t, edit(func(old *keystore.Key) { *old = *k }))
	got, err = s.Key(t.Context(), k.ID)
	must(t, err)
	if got.Broken != nil || !got.Enabled {
		t.Errorf("replaced: %+v", got)
	}
	got.Broken = keystore.ErrEmptyWhitelist
	if s.Add(t.Context(), got) == nil || s.Put(t.Context(), []*keystore.Key{got}) == nil {
		t.Error("a broken key was written")
	}
}
