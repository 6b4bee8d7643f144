// Command extauthz is an Envoy external authorization server: an API key works only from the
// addresses that its owner listed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command that args name and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand() //nolint:contextcheck // each command is given ctx when it runs
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ctx = keystore.WithActor(ctx, actor())
	cmd, err := root.ExecuteContextC(ctx)
	return exitCode(cmd, err, stderr)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "extauthz",
		Short: "An API key works only from the addresses its owner listed",
		Long: `extauthz is an external authorization server for Envoy. It allows or refuses a request based on
the API key that it carries and the address that it comes from.

Exit codes: 0 on success, 1 on an error; check has its own.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		newServeCommand(),
		newHealthCommand(),
		newValidateCommand(),
		newCheckCommand(),
		newDashboardCommand(),
		newKeyCommand(),
		newStoreCommand(),
		newTailCommand(),
		newVersionCommand(),
	)
	checkArgs(root)
	return root
}

// An exitError ends the program with an exit code and without a message.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode prints the error of cmd, if any, and returns the program's exit code.
func exitCode(cmd *cobra.Command, err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	printError(stderr, err)
	if cmd.Name() == checkName {
		return exitUndecided
	}
	return 1
}

// printError prints an error. A list of errors in files is printed without a prefix: each line
// starts with the name of the file.
func printError(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			printError(w, err)
		}
		return
	}
	if places, ok := errors.AsType[strictyaml.Errors](err); ok {
		fmt.Fprintln(w, places)
		return
	}
	fmt.Fprintf(w, "extauthz: %v\n", err)
}
