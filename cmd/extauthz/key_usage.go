package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"extauthz/backend"
	"extauthz/keystore"
	"extauthz/usage"
)

type keyUsageFlags struct {
	configFlags
	since string
	json  bool
}

func newKeyUsageCommand() *cobra.Command {
	f := &keyUsageFlags{}
	cmd := &cobra.Command{
		Use:   "usage ID",
		Short: "Show from which addresses a key was used",
		Long: `Show from which addresses a key was used: how many requests were allowed and refused, the times of
the first and the last, and whether the address is in the key's whitelist. IPv6 addresses are
counted by /64. Counts are stored by day, in UTC; the first day is counted completely.

The server records usage if the configuration has usage: {record: true}.`,
		Example: "  extauthz key usage key_acme --since 168h --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.since, "since", "", "how far to look back, such as 168h or 7d, or a time (default: all that is stored)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *keyUsageFlags) run(cmd *cobra.Command, id string) error {
	since, err := parseSince(f.since, time.Now())
	if err != nil {
		return err
	}
	return f.withUsage(cmd, id, since, func(_ context.Context, _ backend.Editor, _ usage.Store, k *keystore.Key, u *usage.KeyUsage) error {
		report := newUsageReport(k, u, since)
		if f.json {
			return printJSON(cmd.OutOrStdout(), report)
		}
		return report.text(cmd.OutOrStdout(), u)
	})
}

// withUsage calls work with a key and its recorded use since then.
func (f *configFlags) withUsage(cmd *cobra.Command, id string, since time.Time,
	work func(context.Context, backend.Editor, usage.Store, *keystore.Key, *usage.KeyUsage) error,
) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()
	store, err := backend.OpenUsage(ctx, cfg)
	if err != nil {
		return err
	}
	defer store.Close() // only read
	editor, err := backend.OpenEditor(ctx, cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer editor.Close()
	k, err := editor.Key(ctx, id)
	if err != nil {
		return aboutKey(id, err)
	}
	u, err := store.Key(ctx, id, since)
	if err != nil {
		return err
	}
	return work(ctx, editor, store, k, u)
}

// parseSince parses a time as in RFC 3339, or a duration before now; "" is the zero Time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	span, err := parseSpan(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since: %q is neither a duration nor a time: write one such as 168h, 7d or 2027-01-31T00:00:00Z", s)
	}
	return now.Add(-span), nil
}

// parseDuration parses a Go duration, or a number of days such as 7d.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}

// parseSpan is parseDuration for durations that must not be negative.
func parseSpan(s string) (time.Duration, error) {
	span, err := parseDuration(s)
	if err == nil && span < 0 {
		err = fmt.Errorf("%s is negative", s)
	}
	return span, err
}

// A usageReport is the use of one key, as printed.
type usageReport struct {
	KeyID     string         `json:"keyId"`
	LastUsed  *time.Time     `json:"lastUsed"` // null: no recorded use
	LastFrom  string         `json:"lastFrom,omitempty"`
	Complete  bool           `json:"complete"` // no address was dropped because there were too many
	Addresses []usageAddress `json:"addresses"`
}

type usageAddress struct {
	Address     string            `json:"address"`
	Allowed     uint64            `json:"allowed"`
	WouldRefuse uint64            `json:"wouldRefuse,omitempty"`
	Refused     uint64            `json:"refused"`
	Codes       map[string]uint64 `json:"codes,omitempty"` // of the refusals
	First       time.Time         `json:"first"`
	Last        time.Time         `json:"last"`
	Listed      bool              `json:"listed"`
}

func newUsageReport(k *keystore.Key, u *usage.KeyUsage, since time.Time) usageReport {
	r := usageReport{KeyID: k.ID, Complete: u.Complete(since), Addresses: []usageAddress{}}
	if !u.LastUsed.IsZero() {
		r.LastUsed = &u.LastUsed
	}
	if u.LastNetwork.IsValid() {
		r.LastFrom = usage.FormatNetwork(u.LastNetwork)
	}
	for _, a := range u.Addresses(since) {
		r.Addresses = append(r.Addresses, usageAddress{
			Address: usage.FormatNetwork(a.Network), Allowed: a.Allowed, WouldRefuse: a.WouldRefuse, Refused: a.RefusedTotal(),
			Codes: a.RefusedByCode(), First: a.First, Last: a.Last, Listed: usage.Listed(k.Whitelist, a.Network),
		})
	}
	return r
}

func (r *usageReport) text(w io.Writer, u *usage.KeyUsage) error {
	switch {
	case r.LastUsed == nil:
		_, err := fmt.Fprintf(w, "%s: no use is recorded\n", r.KeyID)
		return err
	case r.LastFrom == "":
		fmt.Fprintf(w, "%s: last used %s\n", r.KeyID, moment(u.LastUsed))
	default:
		fmt.Fprintf(w, "%s: last used %s from %s\n", r.KeyID, moment(u.LastUsed), r.LastFrom)
	}
	if !r.Complete {
		fmt.Fprintf(w, "Not complete: some addresses were dropped, because there were too many. The most used and the newest are kept.\n")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ADDRESS\tALLOWED\tREFUSED\tFIRST\tLAST\tLISTED")
	for _, a := range r.Addresses {
		refused := strconv.FormatUint(a.Refused, 10)
		if a.Refused > 0 {
			refused += " " + formatCodes(a.Codes)
		}
		if a.WouldRefuse > 0 {
			refused += fmt.Sprintf(" (would refuse %d)", a.WouldRefuse)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", a.Address, a.Allowed, refused, moment(a.First), moment(a.Last), yesNo(a.Listed))
	}
	return t.Flush()
}

func formatCodes(codes map[string]uint64) string {
	var names []string
	for name := range codes {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
