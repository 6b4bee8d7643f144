package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newKeyHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Print the hash of a secret that is read from standard input",
		Long: `Print the SHA-256 of a secret, in the form of a key file's hash field. The secret is read from
standard input, without one line break at its end. A secret that no request can carry is an
error: with a comma, a control character or a space around it, or longer than 512 bytes.`,
		Example: `  printf %s "$SECRET" | extauthz key hash`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := readSecret(cmd.InOrStdin())
			if err != nil {
				return err
			}
			if err := checkSecret(secret); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), secret.Hash())
			return err
		},
	}
}
