package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/keystore"
)

func newKeyDeleteCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a key",
		Long: `Delete a key, and print its record. To refuse a key for a while, disable it instead: a deleted
key cannot be created again without its secret.`,
		Example: "  extauthz key delete key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
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
	return printKey(cmd.OutOrStdout(), k, nil)
}
