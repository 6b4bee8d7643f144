package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/keystore"
)

type keyRotateFlags struct {
	configFlags
	grace, prefix, secretFile string
}

func newKeyRotateCommand() *cobra.Command {
	f := &keyRotateFlags{}
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a key a new secret; the old one keeps working for a while",
		Long: `Give a key a new secret, and print it, or write it to --secret-file. The old secret works until
--grace has passed. Both belong to the same key: its id, whitelist, limits and usage stay.
` + "`extauthz key show`" + ` shows until when the old secret works.

If the new secret cannot be printed or written, the key keeps its secret.`,
		Example: "  extauthz key rotate key_acme --grace 24h --secret-file secret --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.grace, "grace", "24h", "how long the old secret works, such as 24h or 7d; 0s ends it at once")
	cmd.Flags().StringVar(&f.prefix, "prefix", "sk", "the prefix of the secret, before the _")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "a new file to write the secret to, in place of standard output")
	_ = cmd.MarkFlagFilename("secret-file")
	return cmd
}

func (f *keyRotateFlags) run(cmd *cobra.Command, id string) error {
	grace, err := parseSpan(f.grace)
	if err != nil {
		return fmt.Errorf("--grace: %q is not a duration: write one such as 24h or 7d", f.grace)
	}
	secret, err := newSecret(f.prefix)
	if err != nil {
		return err
	}
	return f.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
		if f.secretFile != "" {
			if _, err := e.Key(ctx, id); err != nil {
				return aboutKey(id, err)
			}
			if err := writeSecretFile(f.secretFile, secret); err != nil {
				return err
			}
		}
		var before *keystore.Key
		var until time.Time
		if grace > 0 {
			until = time.Now().Add(grace).UTC().Truncate(time.Second)
		}
		err := e.Update(ctx, id, func(k *keystore.Key) error {
			before = k.Clone()
			k.Rotate(secret.Hash(), until)
			return nil
		})
		if err == nil && f.secretFile == "" {
			if err = writeOut(cmd.OutOrStdout(), string(secret)+"\n"); err != nil {
				err = errors.Join(fmt.Errorf("the secret could not be printed, so %s keeps its secret: %w", id, err), rotateBack(ctx, e, before, secret.Hash()))
			}
		}
		if err != nil {
			if f.secretFile != "" {
				err = errors.Join(err, os.Remove(f.secretFile)) // no key has this secret
			}
			return aboutKey(id, err)
		}
		end := "no longer works"
		if grace > 0 {
			end = "works until " + until.Format(time.RFC3339)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s has a new secret; the old one %s\n", id, end)
		return nil
	})
}

// rotateBack restores the previous secret of a key, unless it was changed again in the meantime.
func rotateBack(ctx context.Context, e keystore.Editor, before *keystore.Key, rotated keystore.Hash) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return e.Update(ctx, before.ID, func(k *keystore.Key) error {
		if k.Hash == rotated {
			k.Hash, k.Previous = before.Hash, before.Previous
		}
		return nil
	})
}
