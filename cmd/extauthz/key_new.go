package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mr-tron/base58"
	"github.com/spf13/cobra"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// secretBytes is how many random bytes a secret has: 160 bits, more than can be guessed.
const secretBytes = 20

type keyNewFlags struct {
	configFlags
	id, name, expires, prefix, externalID, to string
	allow                                     []string
}

func newKeyNewCommand() *cobra.Command {
	f := &keyNewFlags{}
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a key with a fresh secret",
		Long: `Make a key with a fresh secret of 160 random bits, and print the secret on the first line.
It is shown this once: the record holds its hash alone, and nobody can find it out again.

The record is printed after it as a key file, or added to the store that --config or --keys
names, or, with --append, to a key file, which may be a new one; a key file keeps its comments.
Without --allow the key may be used from every address.`,
		Example: `  extauthz key new --id key_acme_prod --allow 192.0.2.7 --allow 10.0.0.0/8 --append keys.yaml
  extauthz key new --id key_acme_prod --expires 90d --config extauthz.yaml
  extauthz key new --expires 90d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.id, "id", "", "the key's id (default key_ and random characters)")
	cmd.Flags().StringVar(&f.name, "name", "", "a name for people")
	cmd.Flags().StringArrayVar(&f.allow, "allow", nil, "an address or CIDR range from which the key may be used; once for each")
	cmd.Flags().StringVar(&f.expires, "expires", "", "when the key expires: a moment such as 2027-01-31T00:00:00Z, or a time from now such as 720h or 90d")
	cmd.Flags().StringVar(&f.externalID, "external-id", "", "the owner in your own terms; sent upstream")
	cmd.Flags().StringVar(&f.prefix, "prefix", "sk", "what the secret begins with, before a _")
	cmd.Flags().StringVar(&f.to, "append", "", "the key file that the record is added to")
	cmd.MarkFlagsMutuallyExclusive("append", "config")
	cmd.MarkFlagsMutuallyExclusive("append", "keys")
	_ = cmd.MarkFlagFilename("append", "yaml", "yml")
	return cmd
}

func (f *keyNewFlags) run(cmd *cobra.Command) error {
	k, err := f.key(time.Now())
	if err != nil {
		return err
	}
	secret, err := newSecret(f.prefix)
	if err != nil {
		return err
	}
	k.Hash = secret.Hash()
	if err := k.Validate(); err != nil {
		return err
	}
	if f.to == "" && f.file == "" && f.overrides.Keys == "" {
		record, err := yamlfile.MarshalKey(k)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n\nkeys:\n%s", string(secret), record)
		return err
	}
	return f.add(cmd, k, secret)
}

// add writes the key into the store or the file that the flags name, and shows its secret.
func (f *keyNewFlags) add(cmd *cobra.Command, k *keystore.Key, secret keystore.Secret) error {
	to := f.to
	if to != "" {
		f.overrides.Keys = to
	} else if to = f.overrides.Keys; to == "" {
		to = "the store that " + f.file + " names"
	}
	err := f.withEditor(cmd, func(ctx context.Context, e keystore.Editor) error { return e.Add(ctx, k) })
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s was added to %s\n", k.ID, to)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), string(secret))
	return err
}

// key returns the key that the flags describe, without its hash, or everything wrong with them.
func (f *keyNewFlags) key(now time.Time) (*keystore.Key, error) {
	k := &keystore.Key{ID: f.id, Name: f.name, ExternalID: f.externalID, Enabled: true, Whitelist: keystore.Anywhere()}
	if k.ID == "" {
		k.ID = "key_" + randomText(8)
	}
	var errs []error
	var prefixes []netip.Prefix
	for _, entry := range f.allow {
		p, err := keystore.ParseWhitelistEntry(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("--allow: %w", err))
			continue
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) > 0 {
		k.Whitelist = keystore.NewWhitelist(prefixes)
	}
	if f.expires != "" {
		var err error
		if k.Expires, err = parseExpiry(f.expires, now); err != nil {
			errs = append(errs, fmt.Errorf("--expires: %w", err))
		}
	}
	return k, errors.Join(errs...)
}

// parseExpiry reads a moment by RFC 3339, or a time from now: a Go duration, or whole days.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		var span time.Duration
		if days, ok := strings.CutSuffix(s, "d"); ok {
			var n uint64
			n, err = strconv.ParseUint(days, 10, 16)
			span = time.Duration(n) * 24 * time.Hour
		} else {
			span, err = time.ParseDuration(s)
		}
		t = now.Add(span).UTC().Truncate(time.Second)
	}
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%q is neither a moment nor a time from now: write one such as 2027-01-31T00:00:00Z, 720h or 90d", s)
	case !t.After(now):
		return time.Time{}, fmt.Errorf("%s is over already: write a later one", t.Format(time.RFC3339))
	}
	return t, nil
}

var secretPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

func newSecret(prefix string) (keystore.Secret, error) {
	if !secretPrefix.MatchString(prefix) {
		return "", fmt.Errorf("--prefix: %q is not 1 to 32 letters, digits, - or _, with a letter or a digit first", prefix)
	}
	return keystore.Secret(prefix + "_" + randomText(secretBytes)), nil
}

// randomText returns n random bytes in base58, whose characters are hard to take for another.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program rather than return an error
	return base58.Encode(b)
}
