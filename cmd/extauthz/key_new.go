package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

type keyNewFlags struct {
	configFlags
	id, name, expires, prefix, externalID, to, secretFile string
	allow                                                 []string
	report                                                bool
}

func newKeyNewCommand() *cobra.Command {
	f := &keyNewFlags{}
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Create a key with a new secret",
		Long: `Create a key with a new secret of 160 random bits. The secret is shown only once: the record holds
its hash, from which it cannot be recovered. The command prints the secret on the first line of
standard output, or writes it to --secret-file, a new file that only its owner can read, without a
line break at its end. An existing file is never overwritten.

The command prints the record as a key file, or adds it to the store of --config or --keys, or to
the key file of --append. That file keeps its comments, mode and owner; if it does not exist, it is
created so that only its owner can read it (mode 0600). Without --allow, the key may be used from
every address.

If the secret cannot be printed or written, no record is added.`,
		Example: `  extauthz key new --id key_acme_prod --allow 192.0.2.7 --allow 10.0.0.0/8 --append keys.yaml --secret-file secret
  extauthz key new --id key_acme_prod --expires 90d --config extauthz.yaml
  extauthz key new --expires 90d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.id, "id", "", "the key's id (default key_ and random characters)")
	cmd.Flags().StringVar(&f.name, "name", "", "a human-readable name")
	cmd.Flags().StringArrayVar(&f.allow, "allow", nil, "an address or CIDR range from which the key may be used; repeatable")
	cmd.Flags().BoolVar(&f.report, "report", false, "allow other addresses than those of --allow, and only report them")
	cmd.Flags().StringVar(&f.expires, "expires", "", "when the key expires: a time such as 2027-01-31T00:00:00Z, or a duration from now such as 720h or 90d")
	cmd.Flags().StringVar(&f.externalID, "external-id", "", "the owner's id in your own system; sent upstream")
	cmd.Flags().StringVar(&f.prefix, "prefix", "sk", "the prefix of the secret, before the _")
	cmd.Flags().StringVar(&f.to, "append", "", "the key file to add the record to")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "a new file to write the secret to, in place of standard output")
	cmd.MarkFlagsMutuallyExclusive("append", "config")
	cmd.MarkFlagsMutuallyExclusive("append", "keys")
	_ = cmd.MarkFlagFilename("append", "yaml", "yml")
	_ = cmd.MarkFlagFilename("secret-file")
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
	warnAboutWhitelist(cmd, k)
	if f.secretFile != "" {
		if err := writeSecretFile(f.secretFile, secret); err != nil {
			return err
		}
	}
	if f.to == "" && f.file == "" && f.overrides.Keys == "" {
		err = f.print(cmd, k, secret)
	} else {
		err = f.add(cmd, k, secret)
	}
	if err != nil && f.secretFile != "" {
		err = errors.Join(err, os.Remove(f.secretFile)) // no key has this secret
	}
	return err
}

// print prints the record as a key file, after the secret unless that is in a file.
func (f *keyNewFlags) print(cmd *cobra.Command, k *keystore.Key, secret keystore.Secret) error {
	record, err := yamlfile.MarshalKey(k)
	if err != nil {
		return err
	}
	text := "keys:\n" + string(record)
	if f.secretFile == "" {
		text = string(secret) + "\n\n" + text
	}
	return writeOut(cmd.OutOrStdout(), text)
}

// add adds the key to the store or the file that the flags name, and prints its secret unless
// that is in a file.
func (f *keyNewFlags) add(cmd *cobra.Command, k *keystore.Key, secret keystore.Secret) error {
	to := f.to
	if to != "" {
		f.overrides.Keys = to
	} else if to = f.overrides.Keys; to == "" {
		to = "the store that " + f.file + " names"
	}
	err := f.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
		if err := e.Add(ctx, k); err != nil {
			_ = takeBack(ctx, e, k) // the store may have added it before the connection broke
			return err
		}
		if f.secretFile != "" {
			return nil
		}
		if err := writeOut(cmd.OutOrStdout(), string(secret)+"\n"); err != nil {
			err = fmt.Errorf("the secret could not be printed, so no key was added: %w", err)
			return errors.Join(err, takeBack(ctx, e, k))
		}
		return nil
	})
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s was added to %s\n", k.ID, to)
	}
	return err
}

// key returns the key that the flags describe, without its hash, or all errors in the flags.
func (f *keyNewFlags) key(now time.Time) (*keystore.Key, error) {
	k := &keystore.Key{ID: f.id, Name: f.name, ExternalID: f.externalID, Enabled: true, Whitelist: keystore.Anywhere()}
	if k.ID == "" {
		k.ID = keystore.NewID()
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
	if f.report {
		k.WhitelistMode = keystore.Report
		if len(f.allow) == 0 {
			errs = append(errs, errors.New("--report: a key without a whitelist has nothing to report: give --allow too"))
		}
	}
	if f.expires != "" {
		var err error
		if k.Expires, err = parseExpiry(f.expires, now); err != nil {
			errs = append(errs, fmt.Errorf("--expires: %w", err))
		}
	}
	return k, errors.Join(errs...)
}
