package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newKeyHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Print the hash of a secret that is read from standard input",
		Long: `Print the SHA-256 of a secret, as a key file holds it. The secret is read from standard
input; one line break at its end is left out.`,
		Example: `  printf %s "$SECRET" | extauthz key hash`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := readSecret(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if err := usable(secret); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), secret.Hash())
			return err
		},
	}
}
