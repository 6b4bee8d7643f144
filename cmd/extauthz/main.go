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

	"extauthz/strictyaml"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it runs the command that args name and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand() //nolint:contextcheck // each command is given ctx when it runs
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return exitCode(cmd, err, stderr)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "extauthz",
		Short: "An API key works only from the addresses its owner listed",
		Long: `extauthz is an Envoy external authorization server over gRPC. It decides whether a
request may go on: by the API key that it carries, and by the address that it comes from.

Exit codes: 0 on success, 1 on an error; check has its own.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		newServeCommand(),
		newValidateCommand(),
		newCheckCommand(),
		newKeyCommand(),
		newStoreCommand(),
		newVersionCommand(),
	)
	checkArgs(root)
	return root
}

// An exitError ends the program with a code and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode tells what went wrong in cmd, if anything, and returns the program's exit code.
func exitCode(cmd *cobra.Command, err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	tell(stderr, err)
	if cmd.Name() == checkName {
		return exitUndecided
	}
	return 1
}

// tell writes an error. One that is about places in files is left as it is: each of its lines
// begins with the file already.
func tell(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			tell(w, err)
		}
		return
	}
	if places, ok := errors.AsType[strictyaml.Errors](err); ok {
		fmt.Fprintln(w, places)
		return
	}
	fmt.Fprintf(w, "extauthz: %v\n", err)
}
