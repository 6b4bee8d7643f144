package postgres

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"extauthz/keystore"
)

const (
	defaultMaxConns       = 8
	defaultConnectTimeout = 2 * time.Second // connect_timeout in the DSN changes it
)

// A cut that no packet tells of is noticed on an idle connection within about
// Idle + Interval × Count.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// A connection is a DSN that was read.
type connection struct {
	pool    *pgxpool.Config
	secrets []string // what no error may hold
}

func parseDSN(dsn string) (connection, error) {
	secrets := secretsOf(dsn)
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return connection{}, malformed(dsn, secrets, err)
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = defaultMaxConns
	}
	cc := cfg.ConnConfig
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = defaultConnectTimeout
	}
	cc.DialFunc = (&net.Dialer{Timeout: cc.ConnectTimeout, KeepAliveConfig: keepAlive}).DialContext
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "extauthz"
	}
	for _, f := range cc.Fallbacks {
		if (f.Host != cc.Host || f.Port != cc.Port) && cc.ValidateConnect == nil && !strings.Contains(dsn, "target_session_attrs") {
			cc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		}
	}
	if cc.Password != "" {
		secrets = append(secrets, cc.Password)
	}
	return connection{pool: cfg, secrets: secrets}, nil
}

// malformed says what is wrong with a DSN without repeating it: where its parts cannot be
// told apart, any of them may be the password.
func malformed(dsn string, secrets []string, err error) error {
	const advice = "write one such as postgres://extauthz@db:5432/extauthz?sslmode=verify-full, with every special character of the password as % and two hexadecimal digits"
	u, urlErr := url.Parse(dsn)
	isURL := strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 { // behind the DSN, which comes first
		text = text[i+len("`: "):]
	}
	structural := strings.Contains(text, "failed to parse") || strings.Contains(text, "invalid port")
	ambiguous := isURL && (urlErr != nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@"))
	if structural || ambiguous {
		return errors.New("postgres: the dsn cannot be read (it is not repeated here, for its password): " + advice)
	}
	return errors.New("postgres: the dsn: " + redact(text, secrets))
}

// secretsOf returns the passwords that a DSN seems to hold, well formed or not.
func secretsOf(dsn string) []string {
	var secrets []string
	add := func(s string) {
		if s != "" {
			secrets = append(secrets, s)
		}
		if plain, err := url.PathUnescape(s); err == nil && plain != s && plain != "" {
			secrets = append(secrets, plain)
		}
	}
	if _, rest, ok := strings.Cut(dsn, "://"); ok {
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			_, password, _ := strings.Cut(rest[:at], ":")
			add(password)
		}
	}
	for rest := dsn; ; {
		_, after, ok := strings.Cut(rest, "password")
		if !ok {
			return secrets
		}
		rest = after
		value := strings.TrimLeft(after, " =")
		if quoted, ok := strings.CutPrefix(value, "'"); ok {
			value, _, _ = strings.Cut(quoted, "'")
		} else {
			value, _, _ = strings.Cut(value, " ")
			value, _, _ = strings.Cut(value, "&")
		}
		add(value)
	}
}

func redact(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "REDACTED")
	}
	return text
}

// A failure is what went wrong with the database, in words. It does not hand out the
// driver's own error, which carries the connection's settings and the rows at fault.
type failure struct {
	text  string
	cause error // the context's error, or nil
}

func (f *failure) Error() string { return "postgres: " + f.text }

func (f *failure) Unwrap() error { return f.cause }

// failure returns err as it may leave the package.
func (c connection) failure(err error) error {
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	f := &failure{text: redact(err.Error(), c.secrets)}
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			f.cause = cause
		}
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case "3F000", "42P01", "42703": // no such schema, table, column
			f.text = "could not answer, for the schema is missing or older than this program: run `extauthz store migrate` (" + f.text + ")"
		case "42501":
			f.text += ": GRANT this user USAGE on the schema extauthz, and SELECT on its tables"
		}
	}
	return f
}
