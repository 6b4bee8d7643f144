package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// otherNames maps the name of a command to words that users try instead.
var otherNames = map[string][]string{
	"new":     {"add", "create", "make", "generate"},
	"list":    {"ls"},
	"show":    {"get", "describe"},
	"disable": {"revoke", "block", "suspend"},
	"delete":  {"rm", "remove"},
	"serve":   {"run", "start", "server"},
	"check":   {"explain", "test"},
}

// checkArgs makes the errors about the arguments of cmd and its subcommands say what to write
// instead.
func checkArgs(cmd *cobra.Command) {
	cmd.SuggestFor = otherNames[cmd.Name()]
	cmd.SuggestionsMinimumDistance = 2
	fits := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case fits == nil || fits(cmd, args) == nil:
			return nil
		case cmd.HasSubCommands():
			return unknownCommand(cmd, args[0])
		case len(args) == 0:
			return fmt.Errorf("an argument is missing: write `%s`", commandLine(cmd))
		}
		return fmt.Errorf("unexpected arguments %q: write `%s`", args, commandLine(cmd))
	}
	for _, c := range cmd.Commands() {
		checkArgs(c)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q for %q", name, cmd.CommandPath())
	if names := cmd.SuggestionsFor(name); len(names) > 0 {
		return errors.New(text + ": did you mean " + strings.Join(names, " or ") + "?")
	}
	return errors.New(text + ": `" + cmd.CommandPath() + " --help` lists the commands")
}

// commandLine returns an example of how to call the command.
func commandLine(cmd *cobra.Command) string {
	line := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	if !strings.Contains(cmd.Use, " ") && cmd.Flags().Lookup("config") != nil {
		line += " --config FILE"
	}
	return line
}
