package main

import (
	"github.com/spf13/cobra"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Manage keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newKeyNewCommand(),
		newKeyHashCommand(),
		newKeyListCommand(),
		newKeyShowCommand(),
		newKeyDisableCommand(),
		newKeyEnableCommand(),
		newKeyAllowCommand(),
		newKeyDisallowCommand(),
		newKeyExpireCommand(),
		newKeyEnforceCommand(),
		newKeyReportCommand(),
		newKeyRotateCommand(),
		newKeyDeleteCommand(),
		newKeyImportCommand(),
		newKeyExportCommand(),
		newKeyHistoryCommand(),
		newKeyUsageCommand(),
		newKeyProposeCommand(),
	)
	return cmd
}
