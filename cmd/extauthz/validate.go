package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/config"
)

func newValidateCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and its keys",
		Long: `Read the configuration and the keys that it names as the server would, and print every
error and every warning with its file, line and column.

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
	store, storeErr := openStore(cmd.Context(), cfg, nil)
	if storeErr != nil {
		return errors.Join(err, storeErr)
	}
	defer store.close()
	for _, w := range store.warnings() {
		warn(w)
	}
	if err != nil {
		return err
	}
	if _, err := newService(cfg, store, nil); err != nil {
		return err
	}
	noun := "keys"
	if store.len() == 1 {
		noun = "key"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %d %s in %s\n", store.len(), noun, store.name)
	return err
}
