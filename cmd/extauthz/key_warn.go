package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"extauthz/keystore"
)

// warnAboutWhitelist prints what is probably a mistake in the key's whitelist.
func warnAboutWhitelist(cmd *cobra.Command, k *keystore.Key) {
	if w := k.Whitelist.Warning(); w != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n", k.ID, w)
	}
}
