package main

import (
	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyEnforceCommand() *cobra.Command {
	c := &editCommand{change: setMode(keystore.Enforce, "enforced: other addresses are refused")}
	return c.command(&cobra.Command{
		Use:     "enforce ID",
		Short:   "Refuse addresses that are not in a key's whitelist",
		Long:    "End a key's report mode: addresses that are not in its ip_whitelist are refused as FORBIDDEN.",
		Example: "  extauthz key enforce key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func newKeyReportCommand() *cobra.Command {
	c := &editCommand{change: setMode(keystore.Report, "only reported: other addresses are allowed, logged and counted")}
	return c.command(&cobra.Command{
		Use:   "report ID",
		Short: "Allow and report addresses that are not in a key's whitelist",
		Long: `Try a key's ip_whitelist without refusing anyone: requests from other addresses are allowed, and
logged, counted and recorded as requests that would have been refused. All other checks still
apply. ` + "`extauthz key usage`" + ` shows these requests, and ` + "`extauthz key enforce`" + ` ends report mode.`,
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
