package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/polltest"
)

// While a trigger of the table does not notify, the channel is down.
func TestDisabledTriggers(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, server)
	reasons := make(chan error, 10)
	s := open(t, Options{DSN: server.URL(db, server.Addr()), OnChannel: func(_ bool, err error) { reasons <- err }})
	s.proofEvery = 100 * time.Millisecond
	watch(t, s, sink{})
	for _, sql := range []string{
		`ALTER TABLE extauthz.keys DISABLE TRIGGER notify_update`,
		`ALTER TABLE extauthz.keys ENABLE REPLICA TRIGGER notify_update`,
		`DROP TRIGGER notify_update ON extauthz.keys`,
	} {
		if err := <-reasons; err != nil {
			t.Fatalf("the channel is not up: %v", err)
		}
		server.Exec(t, db, sql)
		if err := <-reasons; err == nil || !strings.Contains(err.Error(), "triggers") || !strings.Contains(err.Error(), "missing: notify_update") {
			t.Fatalf("%s: %v, want the trigger named", sql, err)
		}
		if strings.HasPrefix(sql, "ALTER") {
			server.Exec(t, db, `ALTER TABLE extauthz.keys ENABLE TRIGGER notify_update`)
		}
	}
}

// Replacing the table sends no notification; it is detected within proofEvery.
func TestTableIsReplaced(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, server)
	k := storetest.NewKey("key_a")
	r := newReplica(t, server.URL(db, server.Addr()), long)
	must(t, r.store.Add(t.Context(), k))
	r.await(t, true)
	r.allows(t, k)
	server.Exec(t, db, `CREATE TABLE extauthz.dump AS SELECT * FROM extauthz.keys; UPDATE extauthz.dump SET enabled = false;
		BEGIN;
		ALTER TABLE extauthz.keys RENAME TO old;
		ALTER TABLE extauthz.dump RENAME TO keys;
		CREATE TRIGGER notify_insert AFTER INSERT ON extauthz.keys REFERENCING NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
		CREATE TRIGGER notify_update AFTER UPDATE ON extauthz.keys REFERENCING OLD TABLE AS old_keys NEW TABLE AS new_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
		CREATE TRIGGER notify_delete AFTER DELETE ON extauthz.keys REFERENCING OLD TABLE AS old_keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
		CREATE TRIGGER notify_truncate AFTER TRUNCATE ON extauthz.keys FOR EACH STATEMENT EXECUTE FUNCTION extauthz.notify_keys();
		COMMIT`)
	polltest.NoError(t, func() error {
		got, err := r.lookup(k)
		if err == nil && got.Enabled {
			err = errors.New("still enabled")
		}
		return err
	})
	select {
	case up := <-r.channel:
		t.Errorf("the channel changed: up %t", up)
	default:
	}
}

// A table that became empty is reported once.
func TestTableIsEmptied(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, server)
	warnings, up := make(chan error, 10), make(chan bool, 10)
	s := open(t, Options{
		DSN:       server.URL(db, server.Addr()),
		OnChannel: func(isUp bool, _ error) { up <- isUp },
		OnWarning: func(err error) { warnings <- err },
	})
	must(t, s.Put(t.Context(), []*keystore.Key{storetest.NewKey("key_a"), storetest.NewKey("key_b")}))
	s.proofEvery = 100 * time.Millisecond
	watch(t, s, sink{})
	<-up
	server.Exec(t, db, `TRUNCATE extauthz.keys`)
	if err := <-warnings; !strings.Contains(err.Error(), "empty") {
		t.Errorf("warned of %v", err)
	}
	must(t, s.Add(t.Context(), storetest.NewKey("key_c")))
	if len(warnings) > 0 {
		t.Errorf("warned of %v too", <-warnings)
	}
}
