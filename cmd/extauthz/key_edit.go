package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/backend"
	"extauthz/keystore"
)

// errNoChange reports that an edit would change nothing.
var errNoChange = errors.New("no change")

// An editCommand is a command that changes one key.
type editCommand struct {
	configFlags

	// change changes the key and returns its new state as text, or with errNoChange its present
	// one. args are the arguments after the key's id.
	change func(k *keystore.Key, args []string) (done string, err error)
}

// command completes cmd, whose first argument is the key's id.
func (c *editCommand) command(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
			return c.run(ctx, cmd, e, args[0], args[1:])
		})
	}
	c.register(cmd)
	return cmd
}

func (c *editCommand) run(ctx context.Context, cmd *cobra.Command, e keystore.Editor, id string, args []string) error {
	var done string
	var before keystore.Whitelist
	var after *keystore.Key
	err := e.Update(ctx, id, func(k *keystore.Key) (err error) {
		before = k.Whitelist
		done, err = c.change(k, args)
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

// warnAboutWhitelist prints a warning if the key's whitelist is probably a mistake.
func warnAboutWhitelist(cmd *cobra.Command, k *keystore.Key) {
	if w := k.Whitelist.Warning(); w != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n", k.ID, w)
	}
}

// withEditor calls work with an editor of the configured store, and a context that limits the
// time of one edit.
func (f *configFlags) withEditor(cmd *cobra.Command, work func(context.Context, audit.Editor) error) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()
	e, err := backend.OpenEditor(ctx, cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer e.Close()
	return work(ctx, e)
}
