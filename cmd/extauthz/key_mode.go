package main

import (
	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyEnforceCommand() *cobra.Command {
	c := &editCommand{change: setMode(keystore.Enforce, "enforced: other addresses are refused")}
	return c.command(&cobra.Command{
		Use:     "enforce ID",
		Short:   "Refuse addresses that a key's whitelist does not hold",
		Long:    "End a key's report mode: addresses that its whitelist does not hold are refused as FORBIDDEN.",
		Example: "  extauthz key enforce key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func newKeyReportCommand() *cobra.Command {
	c := &editCommand{change: setMode(keystore.Report, "only reported: other addresses are let through, logged and counted")}
	return c.command(&cobra.Command{
		Use:   "report ID",
		Short: "Let addresses through that a key's whitelist does not hold, and report them",
		Long: `Try a key's whitelist without refusing anyone: requests from addresses that it does not hold are let
through, and logged, counted and recorded as those that would have been refused. All other checks
go on. ` + "`extauthz key usage`" + ` shows them, and ` + "`extauthz key enforce`" + ` ends it.`,
		Example: "  extauthz key report key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func setMode(mode keystore.WhitelistMode, done string) func(*keystore.Key, []string) (string, error) {
	return func(k *keystore.Key, _ []string) (string, error) {
		if k.WhitelistMode == mode {
			return "already " + done, errNoChange
		}
		k.WhitelistMode = mode
		return done, nil
	}
}
