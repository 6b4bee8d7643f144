package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyExpireCommand() *cobra.Command {
	c := &editCommand{change: expire}
	return c.command(&cobra.Command{
		Use:   "expire ID TIME|DURATION|never",
		Short: "Set when a key expires",
		Long: `Set the last moment at which a key may be used: a time such as 2027-01-31T00:00:00Z, a duration
from now such as 720h or 90d, or never.`,
		Example: "  extauthz key expire key_acme 90d --config extauthz.yaml",
		Args:    cobra.ExactArgs(2),
	})
}

// expire sets the expiry to the time in args.
func expire(k *keystore.Key, args []string) (string, error) {
	var t time.Time
	if args[0] != "never" {
		var err error
		if t, err = parseExpiry(args[0], time.Now()); err != nil {
			return "", fmt.Errorf("%w; or write never", err)
		}
	}
	if t.Equal(k.Expires) {
		return "expires " + expiry(k) + " already", errNoChange
	}
	k.Expires = t
	return "expires " + expiry(k), nil
}

// parseExpiry reads a time as in RFC 3339, or a duration from now: a Go duration, or whole days.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		var d time.Duration
		d, err = parseDuration(s)
		t = now.Add(d).UTC().Truncate(time.Second)
	}
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%q is neither a time nor a duration: write one such as 2027-01-31T00:00:00Z, 720h or 90d", s)
	case !t.After(now):
		return time.Time{}, fmt.Errorf("%s is in the past: write a later time", t.Format(time.RFC3339))
	}
	return t, nil
}
