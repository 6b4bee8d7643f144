package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/keystore"
)

type keyListFlags struct {
	configFlags
	json bool
}

func newKeyListCommand() *cobra.Command {
	f := &keyListFlags{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys",
		Long:  "List the keys in the order of their ids, without their hashes.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array")
	return cmd
}

func (f *keyListFlags) run(cmd *cobra.Command) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	editor, err := backend.OpenEditor(cmd.Context(), cfg.Store)
	if err != nil {
		return err
	}
	defer editor.Close()
	printer := newKeyTable(cmd.OutOrStdout())
	if f.json {
		printer = newKeyArray(cmd.OutOrStdout())
	}
	for k, err := range editor.Keys(cmd.Context(), "") {
		if err != nil {
			return err
		}
		if err := printer.key(k); err != nil {
			return err
		}
	}
	return printer.end()
}

// A keyPrinter prints keys one by one.
type keyPrinter struct {
	key func(*keystore.Key) error
	end func() error
}

func newKeyTable(w io.Writer) keyPrinter {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tENABLED\tEXPIRES\tIP WHITELIST\tEXTERNAL ID")
	return keyPrinter{
		key: func(k *keystore.Key) error {
			_, err := fmt.Fprintf(t, "%s\t%s\t%t\t%s\t%s\t%s\n", k.ID, orDash(k.Name), k.Enabled, expiry(k), whitelist(k), orDash(k.ExternalID))
			return err
		},
		end: t.Flush,
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func expiry(k *keystore.Key) string {
	if k.Expires.IsZero() {
		return "never"
	}
	return k.Expires.Format(time.RFC3339)
}

// whitelist returns the first ranges, how many more there are, and whether they only report.
func whitelist(k *keystore.Key) string {
	const shown = 3
	entries := whitelistEntries(k)
	text := strings.Join(entries[:min(shown, len(entries))], " ")
	switch {
	case k.Broken != nil:
		return "unreadable: refused"
	case !k.Whitelist.Restricted():
		return "anywhere"
	case len(entries) > shown:
		text = fmt.Sprintf("%s … %d more", text, len(entries)-shown)
	}
	if k.WhitelistMode == keystore.Report {
		text += " (report only)"
	}
	return text
}

func whitelistEntries(k *keystore.Key) []string {
	var entries []string
	for _, p := range k.Whitelist.Prefixes() {
		entries = append(entries, keystore.FormatWhitelistEntry(p))
	}
	return entries
}

func newKeyArray(w io.Writer) keyPrinter {
	separator := "[\n  "
	return keyPrinter{
		key: func(k *keystore.Key) error {
			b, err := keyJSON(k)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "%s%s", separator, b)
			separator = ",\n  "
			return err
		},
		end: func() error {
			end := "\n]"
			if separator[0] == '[' {
				end = "[]"
			}
			_, err := fmt.Fprintln(w, end)
			return err
		},
	}
}
