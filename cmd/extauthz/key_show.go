package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/keystore"
	"extauthz/usage"
)

func newKeyShowCommand() *cobra.Command {
	f := &keyListFlags{}
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one key",
		Long:    "Show all fields of a key except its hash.",
		Example: "  extauthz key show key_acme --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
				k, err := e.Key(ctx, args[0])
				switch {
				case err != nil:
					return aboutKey(args[0], err)
				}
				cfg, err := f.load()
				if err != nil {
					return err
				}
				use, err := lastUseOf(ctx, cfg, k)
				if err != nil {
					return err
				}
				if !f.json {
					return printKey(cmd.OutOrStdout(), k, use)
				}
				b, err := keyJSON(k)
				if err != nil {
					return err
				}
				if use != nil {
					b = withLastUsed(b, use.LastUsed)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), string(b))
				return err
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// printKey prints a key as text, without its hash, and its last use if use is not nil.
func printKey(w io.Writer, k *keystore.Key, use *usage.KeyUsage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	field("id", k.ID)
	field("name", k.Name)
	field("enabled", fmt.Sprint(k.Enabled))
	field("expires", expiry(k))
	allowed := strings.Join(whitelistEntries(k), " ")
	if !k.Whitelist.Restricted() {
		allowed = "anywhere"
	}
	field("ip_whitelist", allowed)
	if k.WhitelistMode == keystore.Report {
		field("ip_whitelist_mode", k.WhitelistMode.String())
	}
	if k.Previous != (keystore.PreviousSecret{}) {
		field("previous", "the secret before the last rotation works until "+k.Previous.Until.Format(time.RFC3339))
	}
	field("external_id", k.ExternalID)
	field("permissions", strings.Join(k.Permissions, " "))
	field("roles", strings.Join(k.Roles, " "))
	for _, r := range k.Ratelimits {
		text := fmt.Sprintf("%s: %d in %s", r.Name, r.Limit, r.Duration)
		if r.OnDemand {
			text += ", only on routes that name it"
		}
		field("ratelimit", text)
	}
	var meta bytes.Buffer
	if json.Compact(&meta, k.Meta) != nil { // stores only hold JSON
		meta.Reset()
	}
	field("meta", meta.String())
	if use != nil {
		field("last used", orNever(use.LastUsed))
		if k.Previous != (keystore.PreviousSecret{}) {
			field("new secret used", orNever(use.LastCurrent))
			field("old secret used", orNever(use.LastPrevious))
		}
	}
	if k.Broken != nil {
		field("broken", oneLine(k.Broken)+": refused")
	}
	return t.Flush()
}
