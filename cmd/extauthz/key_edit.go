package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/keystore"
)

// errNoChange ends an edit of what is so already.
var errNoChange = errors.New("no change")

// A keyVerb is a command that changes one key.
type keyVerb struct {
	configFlags
	change func(k *keystore.Key, args []string) (done string, err error) // done says what is so now, and with errNoChange was so already
}

// command makes the verb's command of the rest of its description; the id comes first.
func (v *keyVerb) command(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return v.withEditor(cmd, func(ctx context.Context, e keystore.Editor) error {
			return v.run(ctx, cmd, e, args[0], args[1:])
		})
	}
	v.register(cmd)
	return cmd
}

func (v *keyVerb) run(ctx context.Context, cmd *cobra.Command, e keystore.Editor, id string, args []string) error {
	var done string
	var before keystore.Whitelist
	var after *keystore.Key
	err := e.Update(ctx, id, func(k *keystore.Key) (err error) {
		before = k.Whitelist
		done, err = v.change(k, args)
		after = k
		return err
	})
	if err != nil && !errors.Is(err, errNoChange) {
		return aboutKey(id, err)
	}
	if !after.Whitelist.Equal(before) {
		warnAboutWhitelist(cmd, after)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", id, done)
	return err
}

// withEditor calls work with what changes the keys that the flags name, for as long as one edit
// may take.
func (f *configFlags) withEditor(cmd *cobra.Command, work func(context.Context, keystore.Editor) error) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()
	e, err := backend.OpenEditor(ctx, cfg.Store)
	if err != nil {
		return err
	}
	defer e.Close()
	return work(ctx, e)
}

func newKeyDisableCommand() *cobra.Command {
	v := &keyVerb{change: func(k *keystore.Key, _ []string) (string, error) {
		if !k.Enabled {
			return "disabled already", errNoChange
		}
		k.Enabled = false
		return "disabled", nil
	}}
	return v.command(&cobra.Command{
		Use:     "disable ID",
		Short:   "Refuse a key from now on",
		Long:    "Refuse a key from now on, as DISABLED, until it is enabled.",
		Example: "  extauthz key disable key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func newKeyEnableCommand() *cobra.Command {
	v := &keyVerb{change: func(k *keystore.Key, _ []string) (string, error) {
		if k.Enabled {
			return "enabled already", errNoChange
		}
		k.Enabled = true
		return "enabled", nil
	}}
	return v.command(&cobra.Command{
		Use:     "enable ID",
		Short:   "Let a key be used again",
		Example: "  extauthz key enable key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func newKeyExpireCommand() *cobra.Command {
	v := &keyVerb{change: expire}
	return v.command(&cobra.Command{
		Use:   "expire ID TIME|DURATION|never",
		Short: "Set when a key expires",
		Long: `Set the last moment at which a key may be used: a moment such as 2027-01-31T00:00:00Z, a time
from now such as 720h or 90d, or never.`,
		Example: "  extauthz key expire key_acme 90d --config extauthz.yaml",
		Args:    cobra.ExactArgs(2),
	})
}

func newKeyDeleteCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Remove a key for good",
		Long: `Remove a key for good, and print what it was. To refuse it for a while, disable it.

Nobody can make the same key again without its secret.`,
		Example: "  extauthz key delete key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withEditor(cmd, func(ctx context.Context, e keystore.Editor) error {
				return deleteKey(ctx, cmd, e, args[0])
			})
		},
	}
	f.register(cmd)
	return cmd
}

func deleteKey(ctx context.Context, cmd *cobra.Command, e keystore.Editor, id string) error {
	k, err := e.Key(ctx, id)
	if err == nil {
		err = e.Delete(ctx, id)
	}
	if err != nil {
		return aboutKey(id, err)
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: deleted; it was\n", id); err != nil {
		return err
	}
	return printKey(cmd.OutOrStdout(), k)
}
