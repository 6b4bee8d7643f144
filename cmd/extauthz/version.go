package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets both in a release: -ldflags "-X main.version=v1.2.3 -X main.commit=…".
var version, commit string

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, revision := buildVersion()
			if revision != "" {
				revision = " " + revision
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "extauthz %s%s %s %s/%s\n", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// buildVersion returns the version of the binary, and the commit if the build recorded it.
func buildVersion() (v, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(version, "unknown"), commit
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return cmp.Or(version, info.Main.Version, "unknown"), cmp.Or(commit, revision)
}
