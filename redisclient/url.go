package redisclient

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

var (
	schemes    = []string{"redis", "rediss", "valkey", "valkeys", "unix"}
	parameters = []string{
		"addr", "db", "master_set", "sentinel_username", "sentinel_password", "ca_file", "cert_file", "key_file",
		"server_name", "skip_verify", "dial_timeout", "write_timeout", "client_name",
	}
)

// badURL returns an error that contains nothing of the URL: a password with a character that should
// have been encoded may be anywhere in it.
func badURL(format string, args ...any) error {
	return fmt.Errorf("redis: the url "+format, args...)
}

// parseURL parses a URL as described at [Connect].
func parseURL(s string) (rueidis.ClientOption, error) {
	var none rueidis.ClientOption
	if scheme, _, ok := strings.Cut(s, ":"); !ok || !slices.Contains(schemes, scheme) {
		return none, badURL("does not begin with redis://, rediss:// or unix:: write one such as redis://user:password@host:6379")
	}
	s, more := splitHosts(s)
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" {
		return none, badURL("is malformed: write one such as redis://user:password@host:6379, with everything but letters and digits in the password percent-encoded, such as %%40 for @")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return none, badURL("has malformed parameters after its '?'")
	}
	for name, values := range q {
		if !slices.Contains(parameters, name) {
			return none, badURL("has an unknown parameter: write one of %s", strings.Join(parameters, ", "))
		}
		if len(values) > 1 && name != "addr" {
			return none, badURL("has the parameter %s more than once", name)
		}
	}
	if err := setHosts(u, q, more); err != nil {
		return none, err
	}
	u.RawQuery = q.Encode()
	option, err := rueidis.ParseURL(u.String())
	if err != nil {
		return none, badURL("has a database that is not a number, or a parameter with a value that does not fit it: dial_timeout and write_timeout take one such as 2s, skip_verify true or false")
	}
	setDefaults(&option, q)
	if err := setTLS(&option, q); err != nil {
		return none, err
	}
	return option, nil
}

// splitHosts removes all hosts but the first from a URL whose hosts are separated by commas, which
// net/url does not support.
func splitHosts(s string) (first string, more []string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme == "unix" {
		return s, nil
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := strings.Split(rest[at:end], ",")
	return scheme + "://" + rest[:at] + hosts[0] + rest[end:], hosts[1:]
}

// setHosts checks the hosts, and gives each a port; the default for sentinels is another one.
func setHosts(u *url.URL, q url.Values, more []string) error {
	if u.Scheme == "unix" {
		if u.Path == "" || u.Host != "" || q.Has("addr") || q.Has("master_set") {
			return badURL("has no socket: write one such as unix:///run/redis/redis.sock")
		}
		return nil
	}
	port := "6379"
	if q.Has("master_set") {
		if port = "26379"; q.Get("master_set") == "" {
			return badURL("has an empty master_set: write the name of the master in the sentinels' configuration")
		}
	}
	hosts := slices.Concat([]string{u.Host}, more, q["addr"])
	for i, h := range hosts {
		host, p, err := net.SplitHostPort(h)
		if err != nil { // no port
			host, p = strings.Trim(h, "[]"), port
		}
		if host == "" || p == "" || strings.ContainsAny(host, "@ /?#") {
			return badURL("has a host that is empty or malformed: write one such as redis://host:6379, or redis://one:6379,two:6379 for several")
		}
		hosts[i] = net.JoinHostPort(host, p)
	}
	u.Host = hosts[0]
	if q["addr"] = hosts[1:]; len(hosts) == 1 {
		q.Del("addr")
	}
	path := strings.Trim(u.Path, "/")
	if several := len(hosts) > 1 && !q.Has("master_set"); several && (path != "" && path != "0" || q.Has("db")) {
		return badURL("has several hosts and a database: a cluster has no databases: omit the database")
	}
	if path == "" {
		u.Path = ""
	}
	return nil
}

func setDefaults(option *rueidis.ClientOption, q url.Values) {
	if !q.Has("client_name") {
		option.ClientName = "extauthz"
	}
	if !q.Has("dial_timeout") {
		option.Dialer.Timeout = dialTimeout
	}
	if !q.Has("write_timeout") {
		option.ConnWriteTimeout = writeTimeout
	}
	option.Sentinel.Username, option.Sentinel.Password = q.Get("sentinel_username"), q.Get("sentinel_password")
	option.Sentinel.ClientName = option.ClientName
	option.Sentinel.Dialer = option.Dialer
	option.Sentinel.TopologyRefreshInterval = 2 * time.Second // the message about a switch may be lost
	option.ClusterOption.ShardsRefreshInterval = 10 * time.Second

	option.DisableCache = true     // keystore/cache is the cache
	option.AlwaysPipelining = true // a lookup that ends early then leaves its connection open
	option.ReadBufferEachConn, option.WriteBufferEachConn = 64<<10, 64<<10
	option.RetryDelay = func(attempts int, _ rueidis.Completed, _ error) time.Duration {
		if attempts > 2 { // the first is for a connection that was cut while it was idle
			return -1
		}
		return 10 * time.Millisecond
	}
}
