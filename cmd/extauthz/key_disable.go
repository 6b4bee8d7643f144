package main

import (
	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyDisableCommand() *cobra.Command {
	c := &editCommand{change: func(k *keystore.Key, _ []string) (string, error) {
		if !k.Enabled {
			return "already disabled", errNoChange
		}
		k.Enabled = false
		return "disabled", nil
	}}
	return c.command(&cobra.Command{
		Use:     "disable ID",
		Short:   "Refuse a key until it is enabled",
		Long:    "Refuse a key as DISABLED, until it is enabled again.",
		Example: "  extauthz key disable key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}

func newKeyEnableCommand() *cobra.Command {
	c := &editCommand{change: func(k *keystore.Key, _ []string) (string, error) {
		if k.Enabled {
			return "already enabled", errNoChange
		}
		k.Enabled = true
		return "enabled", nil
	}}
	return c.command(&cobra.Command{
		Use:     "enable ID",
		Short:   "Accept a disabled key again",
		Example: "  extauthz key enable key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
	})
}
