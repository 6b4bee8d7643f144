package main

import (
	"github.com/spf13/cobra"

	"extauthz/config"
)

// configFlags are the flags of every command that needs a configuration.
type configFlags struct {
	file      string
	overrides config.Overrides
}

func (f *configFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration file")
	cmd.Flags().StringVarP(&f.overrides.Keys, "keys", "k", "", "key file, or a folder of key files; overrides the configuration's store")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	_ = cmd.MarkFlagFilename("keys", "yaml", "yml")
}

func (f *configFlags) load() (*config.Config, error) {
	return config.Load(f.file, f.overrides)
}
