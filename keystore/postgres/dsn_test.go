package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/storetest"
)

// The error for an invalid DSN contains no part of the password.
func TestMalformedDSN(t *testing.T) {
	t.Parallel()
	const word = "tr0ub4dor"
	for _, dsn := range []string{
		"postgres://user:" + word + "@host:port/db",
		"postgres://user:" + word + "/x@host/db",
		"postgres://user:a/" + word + "@host/db",
		"postgres://user:" + word + ":x@host:y/db",
		"postgres://user:%" + word + "@host/db",
		"postgres://user:" + word + " x@host/db?sslmode=nope",
		"postgres://user:" + word + "@host/db?sslmode=nope",
		"postgres://user:" + word + "@host/db?connect_timeout=" + word,
		"postgres://user@host/db?password=" + word + "&sslmode=" + word,
		"postgres://user:" + word + "@host/db?pool_max_conns=0",
		"postgres://user:" + word + "@host/db?sslrootcert=/nowhere/ca.pem&sslmode=verify-full",
		"postgres://user:" + word + "@host/db?target_session_attrs=best",
		"postgresql://user:" + word + "@[::1/db",
		"postgres:/user:" + word + "@host/db",
		"mysql://user:" + word + "@host/db",
		"host=h user=u password=" + word + " sslmode=nope",
		"host=h user=u password='" + word + " sslmode=nope",
		"host=h user=u password='x " + word + "' sslmode=nope",
		"host=h user=u password=x " + word + " sslmode=disable",
		"host=h port=" + word + " user=u",
		"host=h user=u password = " + word + " port=x",
	} {
		s, err := Open(t.Context(), Options{DSN: dsn})
		if err == nil {
			s.Close()
			t.Errorf("%s: accepted", dsn)
		} else if strings.Contains(err.Error(), word) || strings.Contains(err.Error(), word[2:]) {
			t.Errorf("%s: the error contains the password: %v", dsn, err)
		}
		if _, err := Migrate(t.Context(), dsn); err == nil || strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error of Migrate: %v", dsn, err)
		}
	}
	for dsn, says := range map[string]string{
		"postgres://u@h/db?sslmode=nope":           "sslmode",
		"postgres://u@h/db?pool_max_conns=0":       "pool_max_conns",
		"postgres://u@h/db?sslrootcert=/nowhere/a": "/nowhere/a",
		"host=h sslmode=nope":                      "sslmode",
		"postgres://u:a/b@h/db":                    "special character",
	} {
		if _, err := Open(t.Context(), Options{DSN: dsn}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q in it", dsn, err, says)
		}
	}
}

// Later errors contain no password either, and do not wrap the driver's error, which contains the
// settings of the connection.
func TestErrorsHoldNoPassword(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, server)
	good := server.URL(db, server.Addr())
	const wrong = "wrong-pass"
	for name, dsn := range map[string]string{
		"wrong password": strings.Replace(good, url.UserPassword("postgres", pgtest.Password).String(), "postgres:"+wrong, 1),
		"no database":    strings.Replace(good, db, "nowhere", 1),
		"no server":      server.URL(db, "127.0.0.1:1"),
		"no host":        server.URL(db, "nowhere.invalid:5432"),
		"no TLS":         strings.Replace(good, "sslmode=disable", "sslmode=verify-full", 1),
		"bad parameter":  good + "&no_such_setting=" + url.QueryEscape(pgtest.Password),
	} {
		t.Run(name, func(t *testing.T) {
			down := make(chan error, 1)
			s := open(t, Options{DSN: dsn, OnChannel: func(_ bool, err error) { down <- err }})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go s.Watch(ctx, sink{})
			_, lookup := s.Lookup(t.Context(), keystore.Hash{1})
			_, migrate := Migrate(t.Context(), dsn)
			for call, err := range map[string]error{
				"Ready": s.Ready(t.Context()), "Lookup": lookup, "Migrate": migrate, "Watch": <-down,
				"Add": s.Add(t.Context(), storetest.NewKey("a")), "Put": s.Put(t.Context(), []*keystore.Key{storetest.NewKey("a")}),
			} {
				if err == nil || errors.Is(err, keystore.ErrNotFound) {
					t.Errorf("%s: error %v", call, err)
				} else if strings.Contains(err.Error(), pgtest.Password) || strings.Contains(err.Error(), wrong) {
					t.Errorf("%s: the error contains the password: %v", call, err)
				}
				unreachable := name == "no server" || name == "no host"
				if cause := errors.Unwrap(err); cause != nil && (!unreachable || cause != keystore.ErrUnreachable) { //nolint:errorlint // that alone, and nothing around it
					t.Errorf("%s: the error wraps %T", call, cause)
				}
				if errors.Is(err, keystore.ErrUnreachable) != unreachable {
					t.Errorf("%s: unreachable is %t", call, !unreachable)
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	dsn := strings.Replace(server.URL(freshDatabase(t, server), server.Addr()), "sslmode=disable", "sslmode=verify-full", 1)
	s := open(t, Options{DSN: dsn + "&sslrootcert=" + url.QueryEscape(server.CA())})
	must(t, s.Ready(t.Context()))
	var encrypted bool
	must(t, s.pool.QueryRow(t.Context(), `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&encrypted))
	if !encrypted {
		t.Error("the connection is not encrypted")
	}
	if err := open(t, Options{DSN: dsn}).Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v, want that the certificate is not trusted", err)
	}
}

func TestDSNDefaults(t *testing.T) {
	t.Setenv("PGTARGETSESSIONATTRS", "")
	plain, err := parseDSN("postgres://u@a/db")
	must(t, err)
	if plain.pool.MaxConns != defaultMaxConns || plain.pool.ConnConfig.ConnectTimeout != defaultConnectTimeout || plain.pool.ConnConfig.ValidateConnect != nil {
		t.Errorf("%+v", plain.pool)
	}
	set, err := parseDSN("postgres://u@a,b/db?pool_max_conns=3&connect_timeout=7&target_session_attrs=any&application_name=x")
	must(t, err)
	if set.pool.MaxConns != 3 || set.pool.ConnConfig.ConnectTimeout != 7*time.Second || set.pool.ConnConfig.ValidateConnect != nil ||
		set.pool.ConnConfig.RuntimeParams["application_name"] != "x" {
		t.Errorf("%+v", set.pool)
	}
	hosts, err := parseDSN("postgres://u@a,b/db")
	must(t, err)
	if hosts.pool.ConnConfig.ValidateConnect == nil {
		t.Error("of several hosts, a lagging one may answer")
	}
}
