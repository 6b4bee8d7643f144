package postgres

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
)

// cutConnections ends every connection to the database.
func cutConnections(t *testing.T, db string) {
	t.Helper()
	server.Exec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// Each new connection reads the certificates again, in the pool and for the channel.
func TestCertificatesReplacedOnDisk(t *testing.T) {
	db := freshDatabase(t, server)
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"), filepath.Join(dir, "ca.crt")
	server.Exec(t, db, `CREATE ROLE `+pgtest.CertUser+` SUPERUSER LOGIN PASSWORD 'certified'`)
	t.Cleanup(func() { server.Exec(t, "postgres", `DROP ROLE `+pgtest.CertUser) })
	trusted, err := os.ReadFile(server.CA())
	must(t, err)
	writeFile(t, ca, string(trusted))
	server.WriteClientCert(t, cert, key, time.Now().Add(-time.Hour))

	q := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}, "sslcert": {cert}, "sslkey": {key}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(pgtest.CertUser, "certified"), Host: server.Addr(), Path: "/" + db, RawQuery: q.Encode()}
	r := newReplica(t, u.String(), long)
	r.await(t, false)
	fails := func(says string) {
		t.Helper()
		// The connection may be reset before the server's reason is read.
		polltest.NoError(t, func() error {
			if err := r.store.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
				return fmt.Errorf("Ready: %w; want %q in it", err, says)
			}
			return nil
		})
	}
	works := func() {
		t.Helper()
		r.await(t, true)
		must(t, r.store.Ready(t.Context()))
	}
	fails("expired certificate")
	server.WriteClientCert(t, cert, key, time.Now().Add(time.Hour))
	works()

	must(t, os.Remove(key))
	cutConnections(t, db)
	r.await(t, false)
	fails(key)
	server.WriteClientCert(t, cert, key, time.Now().Add(time.Hour))
	works()

	other := pgtest.Start(t) // with a certificate of its own
	untrusted, err := os.ReadFile(other.CA())
	must(t, err)
	writeFile(t, ca, string(untrusted))
	cutConnections(t, db)
	r.await(t, false)
	fails("certificate")
	writeFile(t, ca, string(trusted))
	works()
}

// Each new connection reads the password file again, and no error contains a password.
func TestPasswordFileChanged(t *testing.T) {
	db := freshDatabase(t, server)
	server.Exec(t, db, `CREATE ROLE passfile_user SUPERUSER LOGIN PASSWORD 'pass-one'`)
	t.Cleanup(func() { server.Exec(t, "postgres", `DROP ROLE passfile_user`) })
	file := filepath.Join(t.TempDir(), "pgpass")
	writeFile(t, file, "*:*:*:passfile_user:pass-zero\n")
	t.Setenv("PGPASSFILE", file)
	host, port, _ := strings.Cut(server.Addr(), ":")
	r := newReplica(t, fmt.Sprintf("host=%s port=%s dbname=%s user=passfile_user sslmode=disable", host, port, db), long)
	for i, password := range []string{"pass-one", "pass-two"} {
		server.Exec(t, db, `ALTER ROLE passfile_user PASSWORD '`+password+`'`)
		cutConnections(t, db)
		r.await(t, false)
		err := r.store.Ready(t.Context())
		if err == nil || !strings.Contains(err.Error(), "password authentication failed") || strings.Contains(err.Error(), "pass-") {
			t.Errorf("round %d: Ready: %v", i, err)
		}
		writeFile(t, file, "*:*:*:passfile_user:"+password+"\n")
		r.await(t, true)
		must(t, r.store.Ready(t.Context()))
	}
}
