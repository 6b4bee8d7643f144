package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"extauthz/keystore/postgres"
)

func newStoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Work on the store of keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreMigrateCommand())
	return cmd
}

func newStoreMigrateCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make the store's tables, or bring them up to date",
		Long: `Make the schema extauthz in the Postgres database that the configuration names, or bring it
up to what this program needs, and print what was applied. It is safe to run twice, from two
places at once, and while servers run. Other stores need none of it.

The database's user must own the schema, or be allowed to create one. The servers themselves
need SELECT alone.`,
		Example: `  extauthz store migrate --config extauthz.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.migrate(cmd) },
	}
	f.register(cmd)
	return cmd
}

// migrateTimeout is how long migrations may take, with the wait for another that is under way.
const migrateTimeout = 10 * time.Minute

func (f *configFlags) migrate(cmd *cobra.Command) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if cfg.Store.Postgres == nil {
		_, err := fmt.Fprintln(out, "nothing to migrate: the keys are not in Postgres")
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), migrateTimeout)
	defer cancel()
	applied, err := postgres.Migrate(ctx, cfg.Store.Postgres.DSN)
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		_, err := fmt.Fprintln(out, "nothing to migrate: the schema is up to date")
		return err
	}
	for _, name := range applied {
		if _, err := fmt.Fprintln(out, "applied", name); err != nil {
			return err
		}
	}
	return nil
}
