package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"extauthz/keystore"
)

const (
	defaultMaxConns       = 8
	defaultConnectTimeout = 2 * time.Second // if the DSN has no connect_timeout
)

// A connection that was cut silently is noticed within about Idle + Interval × Count while it is idle.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// A connection is a DSN and the settings parsed from it. It is safe for concurrent use.
type connection struct {
	dsn      string
	pool     *pgxpool.Config
	setsMode bool // the DSN sets default_query_exec_mode

	mu      sync.Mutex
	secrets []string // redacted from errors; the last is the current password
}

func parseDSN(dsn string) (*connection, error) {
	c := &connection{dsn: dsn, setsMode: strings.Contains(dsn, "default_query_exec_mode"), secrets: append(secretsOf(dsn), "")}
	var err error
	if c.pool, err = c.parse(); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	c.pool.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		fresh, err := c.current()
		if err == nil {
			fresh.BuildContextWatcherHandler = cc.BuildContextWatcherHandler
			*cc = *fresh
		}
		return err
	}
	return c, nil
}

// current returns the settings for a new connection. It reads the certificates, the password file and
// the service file again.
func (c *connection) current() (*pgx.ConnConfig, error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, err
	}
	return cfg.ConnConfig, nil
}

func (c *connection) parse() (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(c.dsn)
	if err != nil {
		return nil, c.malformed(err)
	}
	if !strings.Contains(c.dsn, "pool_max_conns") {
		cfg.MaxConns = defaultMaxConns
	}
	cc := cfg.ConnConfig
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = defaultConnectTimeout
	}
	if !c.setsMode {
		cc.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // works through a pooler too
	}
	cc.DialFunc = (&net.Dialer{Timeout: cc.ConnectTimeout, KeepAliveConfig: keepAlive}).DialContext
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "extauthz"
	}
	for _, f := range cc.Fallbacks {
		if (f.Host != cc.Host || f.Port != cc.Port) && cc.ValidateConnect == nil && !strings.Contains(c.dsn, "target_session_attrs") {
			cc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[len(c.secrets)-1] = cc.Password
	return cfg, nil
}

// malformed returns the error for an invalid DSN, or for a file that it names. It does not repeat a DSN
// whose parts are ambiguous, as any of them may be the password.
func (c *connection) malformed(err error) error {
	const advice = "write one such as postgres://extauthz@db:5432/extauthz?sslmode=verify-full, with every special character of the password as % and two hexadecimal digits"
	u, urlErr := url.Parse(c.dsn)
	isURL := strings.HasPrefix(c.dsn, "postgres://") || strings.HasPrefix(c.dsn, "postgresql://")
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 { // cut off the DSN, which comes first
		text = text[i+len("`: "):]
	}
	structural := strings.Contains(text, "failed to parse") || strings.Contains(text, "invalid port")
	ambiguous := isURL && (urlErr != nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@"))
	if structural || ambiguous {
		return errors.New("the dsn cannot be read (it is not repeated here, for its password): " + advice)
	}
	return errors.New("the dsn: " + c.redact(text))
}

// secretsOf returns the apparent passwords in a DSN, which may be malformed.
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

func (c *connection) redact(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "REDACTED")
		}
	}
	return text
}

// A failure is an error of the database. It does not wrap the driver's error, which contains the
// connection's settings and the offending rows.
type failure struct {
	text  string
	cause error // the context's error, keystore.ErrUnreachable, or nil
}

func (f *failure) Error() string { return "postgres: " + f.text }

func (f *failure) Unwrap() error { return f.cause }

// failure returns err in the form in which it may leave the package.
func (c *connection) failure(err error) error {
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	f := &failure{text: c.redact(err.Error())}
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			f.cause = cause
		}
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if f.cause == nil && !answered && isNetworkError(err) {
		f.cause = keystore.ErrUnreachable
	}
	if answered {
		switch pgErr.Code {
		case "3F000", "42P01", "42703": // no such schema, table, column
			f.text = "the schema is missing or older than this program: run `extauthz store migrate` (" + f.text + ")"
		case "26000", "42P05": // prepared statement missing, or already there
			f.text += ": a connection pooler in transaction mode, such as pgbouncer, does not support prepared statements: write default_query_exec_mode=exec in the dsn"
		case "42501":
			f.text += ": GRANT this user USAGE on the schema extauthz, and SELECT on its tables"
		}
	}
	return f
}

// isNetworkError reports whether there is no connection to the server, or it was lost.
func isNetworkError(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
