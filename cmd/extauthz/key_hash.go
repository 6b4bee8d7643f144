package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newKeyHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Print the hash of a secret read from standard input",
		Long: `Read a secret from standard input, and print its SHA-256 hash as the hash field of a key file has
it. One line break at the end of the input is ignored. A secret that no request can carry is an
error: one with a comma or a control character, with a space around it, or of over 512 bytes.`,
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
