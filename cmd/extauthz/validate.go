package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/config"
)

func newValidateCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and its keys",
		Long: `Read the configuration and the keys that it names as the server would, and print every
error and every warning with its file, line and column.

A store in Postgres or Redis that cannot be reached is a warning: the configuration may be right.

Exit codes: 0 without errors, 1 with any. Warnings are no errors.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.validate(cmd) },
	}
	f.register(cmd)
	return cmd
}

func (f *configFlags) validate(cmd *cobra.Command) error {
	warn := func(w error) { fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w) }
	cfg, err := f.load()
	for _, w := range cfg.Warnings {
		warn(w)
	}
	if cfg.Store == (config.Store{}) {
		return err // there are no keys to look at
	}
	store, storeErr := backend.OpenStore(cmd.Context(), cfg.Store, backend.StoreHooks{})
	if storeErr != nil {
		return errors.Join(err, storeErr)
	}
	defer store.Close()
	if files, ok := store.(backend.InMemory); ok {
		for _, w := range files.Warnings() {
			warn(w)
		}
	}
	if err != nil {
		return err
	}
	if _, err := backend.NewChecker(cfg, backend.NewAuthorizer(cfg, store, nil, backend.AuthorizerHooks{}), backend.CheckerHooks{}); err != nil {
		return err
	}
	if err := validateLimiter(cmd.Context(), cfg.Ratelimit, warn); err != nil {
		return err
	}
	keys, err := validateKeys(cmd.Context(), store, cfg, warn)
	if err != nil {
		return err
	}
	if keys < 0 {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: the configuration alone\n")
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s in %s\n", countKeys(keys), cfg.Store.Name())
	return err
}
