package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/config"
	"extauthz/ratelimit"
)

func newValidateCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and its keys",
		Long: `Read the configuration and the keys as the server does, and print every error and warning with its
file, line and column. A Postgres or Redis server that does not answer is a warning.

Exit codes: 0 if there are no errors, even if there are warnings; 1 otherwise.`,
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
		return err // there are no keys to check
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
	if err := validateTLS(cfg.TLS, warn); err != nil {
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
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: the configuration; its keys were not checked\n")
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ok: %s in %s\n", countKeys(keys), cfg.Store.Name())
	return err
}

// validateLimiter opens the rate limiter. One that does not answer is a warning, since the
// configuration may be correct.
func validateLimiter(ctx context.Context, c config.Ratelimit, warn func(error)) error {
	l, err := backend.OpenLimiter(ctx, c)
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = l.Look(ctx, ratelimit.Subject{Key: "validate"}, []ratelimit.Charge{{Name: "validate", Limit: 1, Duration: time.Second}})
	if err != nil {
		warn(fmt.Errorf("the rate limiter does not answer: %s", oneLine(err)))
	}
	return nil
}

// validateTLS reads the certificates. One that is not valid now is a warning, since it may be
// replaced before the server starts.
func validateTLS(c config.TLS, warn func(error)) error {
	if c.CertFile == "" {
		return nil
	}
	t, err := backend.OpenTLS(c, nil)
	if err != nil {
		return err
	}
	if err := t.CheckTime(time.Now()); err != nil {
		warn(err)
	}
	return nil
}
