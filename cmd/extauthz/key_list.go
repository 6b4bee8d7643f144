package main

import (
	"errors"
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
	unusedSince, expiresWithin string
	json                       bool
}

func newKeyListCommand() *cobra.Command {
	f := &keyListFlags{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys",
		Long: `List the keys in the order of their ids, without their hashes. If the configuration records
usage, the list also shows when each key was last used.`,
		Example: `  extauthz key list --config extauthz.yaml
  extauthz key list --unused-since 90d --config extauthz.yaml
  extauthz key list --expires-within 30d --config extauthz.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.unusedSince, "unused-since", "", "list only keys that were not used for this long, such as 90d, or never; requires usage: {record: true}")
	cmd.Flags().StringVar(&f.expiresWithin, "expires-within", "", "list only keys that expire within this time from now, such as 30d")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON array")
	return cmd
}

func (f *keyListFlags) run(cmd *cobra.Command) error {
	ctx, now := cmd.Context(), time.Now()
	unused, expires, err := f.spans()
	if err != nil {
		return err
	}
	cfg, err := f.load()
	if err != nil {
		return err
	}
	editor, err := backend.OpenEditor(ctx, cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer editor.Close()
	records, err := openRecorded(ctx, cfg)
	switch {
	case err != nil:
		return err
	case records != nil:
		defer records.Close() // only read
	case f.unusedSince != "":
		return errors.New("--unused-since: the configuration does not record usage: write `usage: {record: true}`")
	}
	printer := newKeyTable(cmd.OutOrStdout(), records != nil)
	if f.json {
		printer = newKeyArray(cmd.OutOrStdout())
	}
	last := func(string) (time.Time, error) { return time.Time{}, nil }
	if records != nil {
		uses := newLastUses(ctx, records)
		defer uses.stop()
		last = uses.of
	}
	for k, err := range editor.Keys(ctx, "") {
		if err != nil {
			return err
		}
		used, err := last(k.ID)
		if err != nil {
			return err
		}
		if f.unusedSince != "" && used.After(now.Add(-unused)) ||
			f.expiresWithin != "" && (k.Expires.IsZero() || k.ExpiredAt(now) || k.Expires.After(now.Add(expires))) {
			continue
		}
		if err := printer.key(k, used); err != nil {
			return err
		}
	}
	return printer.end()
}

// spans returns the durations in the flags.
func (f *keyListFlags) spans() (unused, expires time.Duration, err error) {
	for _, s := range []struct {
		flag, text string
		to         *time.Duration
	}{{"--unused-since", f.unusedSince, &unused}, {"--expires-within", f.expiresWithin, &expires}} {
		if s.text == "" {
			continue
		}
		if *s.to, err = parseSpan(s.text); err != nil {
			return 0, 0, fmt.Errorf("%s: %q is not a duration: write one such as 720h or 90d", s.flag, s.text)
		}
	}
	return unused, expires, nil
}

// A keyPrinter prints keys one by one, with the time of their last use.
type keyPrinter struct {
	key func(k *keystore.Key, used time.Time) error
	end func() error
}

func newKeyTable(w io.Writer, lastUsed bool) keyPrinter {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "ID\tNAME\tENABLED\tEXPIRES\tIP WHITELIST\tEXTERNAL ID"
	if lastUsed {
		header += "\tLAST USED"
	}
	fmt.Fprintln(t, header)
	return keyPrinter{
		key: func(k *keystore.Key, used time.Time) error {
			line := fmt.Sprintf("%s\t%s\t%t\t%s\t%s\t%s", k.ID, orDash(k.Name), k.Enabled, expiry(k), whitelist(k), orDash(k.ExternalID))
			if lastUsed {
				line += "\t" + orNever(used)
			}
			_, err := fmt.Fprintln(t, line)
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

// whitelist returns the first entries, how many more there are, and whether the key is in report
// mode.
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
		key: func(k *keystore.Key, used time.Time) error {
			b, err := keyJSON(k)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "%s%s", separator, withLastUsed(b, used))
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
