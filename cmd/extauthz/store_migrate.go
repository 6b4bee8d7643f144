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
		Short: "Manage the key store",
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
		Short: "Create or update the tables in Postgres",
		Long: `Create the schema extauthz in the configured Postgres database, or update it to the version that
this program needs, and print the migrations that were applied. The command is safe to repeat, to
run in several processes at once, and to run while servers run. Other stores have no migrations.

The user in the DSN must own the schema, or be allowed to create one. Servers need only SELECT.`,
		Example: `  extauthz store migrate --config extauthz.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.migrate(cmd) },
	}
	f.register(cmd)
	return cmd
}

// migrateTimeout is how long migrations may take, including the wait for those of another process.
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
