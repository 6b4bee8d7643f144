package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
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

type keyProposeFlags struct {
	configFlags
	since, widen, evaluate string
	options                usage.ProposalOptions
	apply, json            bool
}

func newKeyProposeCommand() *cobra.Command {
	f := &keyProposeFlags{}
	cmd := &cobra.Command{
		Use:   "propose ID",
		Short: "Propose a key's whitelist from the addresses from which it was used",
		Long: `Propose a whitelist from the addresses from which a key was allowed. Without --widen it covers
exactly those addresses; adjacent addresses are merged if that adds no other address. With --widen,
ranges grow up to the given prefix lengths so that there are fewer of them, and each entry shows
how many unseen addresses it adds. IPv6 addresses are counted by /64.

The key is changed only with --apply; its ip_whitelist_mode stays the same.
--evaluate prints what a given whitelist would have refused.`,
		Example: `  extauthz key propose key_acme --since 168h --widen 24,56 --config extauthz.yaml
  extauthz key propose key_acme --evaluate 192.0.2.0/24,2001:db8::/32 --config extauthz.yaml
  extauthz key propose key_acme --since 168h --apply --config extauthz.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "168h", "how far to look back, such as 168h or 7d, or a time")
	flags.Uint64Var(&f.options.MinRequests, "min-requests", 1, "leave out addresses with fewer allowed requests")
	flags.IntVar(&f.options.MinDays, "min-days", 1, "leave out addresses that were allowed on fewer days")
	flags.StringVar(&f.widen, "widen", "", "how far ranges may grow, as prefix lengths of IPv4 and IPv6, such as 24,56")
	flags.IntVar(&f.options.MaxEntries, "max-entries", 50, "propose at most this many entries: those with the most requests")
	flags.StringVar(&f.evaluate, "evaluate", "", "evaluate this comma-separated whitelist instead of proposing one")
	flags.BoolVar(&f.apply, "apply", false, "write the proposal to the key")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("evaluate", "apply")
	return cmd
}

func (f *keyProposeFlags) run(cmd *cobra.Command, id string) error {
	var err error
	if f.options.Since, err = parseSince(f.since, time.Now()); err != nil {
		return err
	}
	if f.options.Widen4, f.options.Widen6, err = parseWiden(f.widen); err != nil {
		return err
	}
	if err := f.options.Validate(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	// Read all that is stored: addresses that are too old are reported as such.
	return f.withUsage(cmd, id, time.Time{}, func(ctx context.Context, e backend.Editor, s usage.Store, k *keystore.Key, u *usage.KeyUsage) error {
		if f.evaluate != "" {
			return f.runEvaluate(cmd.OutOrStdout(), u)
		}
		p := usage.Propose(u, f.options)
		report := newProposalReport(k, u, &p, f.options.Since)
		if report.Flags, err = flagProposal(ctx, e, s, k, u, &p, f.options.Since); err != nil {
			return err
		}
		if f.apply {
			if err := applyProposal(ctx, e, id, &p); err != nil {
				return aboutKey(id, err)
			}
			report.Applied = true
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), report)
		}
		return report.text(cmd.OutOrStdout())
	})
}

// parseWiden reads the prefix lengths of IPv4 and IPv6; "" gives none.
func parseWiden(s string) (four, six int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	parts := strings.Split(s, ",")
	if len(parts) == 2 {
		four, err = strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(parts[0]), "/"))
		if err == nil {
			six, err = strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(parts[1]), "/"))
		}
	}
	if len(parts) != 2 || err != nil || four < 1 || six < 1 {
		return 0, 0, fmt.Errorf("--widen: %q is not two prefix lengths: write those of IPv4 and IPv6, such as 24,56", s)
	}
	return four, six, nil
}

// applyProposal writes the proposal as the key's whitelist.
func applyProposal(ctx context.Context, e keystore.Editor, id string, p *usage.Proposal) error {
	if len(p.Entries) == 0 {
		return errors.New("the proposal is empty, and an empty ip_whitelist says neither \"anyone\" nor \"no one\": look back further with --since, or record usage first")
	}
	return e.Update(ctx, id, func(k *keystore.Key) error {
		k.Whitelist = keystore.NewWhitelist(p.Prefixes())
		return nil
	})
}

// A proposalReport is a proposal, as printed.
type proposalReport struct {
	KeyID    string          `json:"keyId"`
	Entries  []string        `json:"entries"`
	Covers   coverageReport  `json:"covers"`
	Adds     uint64          `json:"adds"`
	LeftOut  []leftOutReport `json:"leftOut"`
	Flags    []flagReport    `json:"flags"`
	Complete bool            `json:"complete"`
	Applied  bool            `json:"applied,omitempty"`
	Details  []entryReport   `json:"details"`
}

type coverageReport struct {
	Addresses int    `json:"addresses"`
	Requests  uint64 `json:"requests"`
}

type leftOutReport struct {
	Address  string `json:"address"`
	Requests uint64 `json:"requests"`
	Reason   string `json:"reason"`
}

type flagReport struct {
	Address string `json:"address"`
	Flag    string `json:"flag"`
	Owners  int    `json:"owners,omitempty"` // of a shared address: how many other owners use it
}

type entryReport struct {
	Entry     string `json:"entry"`
	Addresses int    `json:"addresses"`
	Requests  uint64 `json:"requests"`
	Days      int    `json:"days"`
	Adds      uint64 `json:"adds"`
}

func newProposalReport(k *keystore.Key, u *usage.KeyUsage, p *usage.Proposal, since time.Time) *proposalReport {
	r := &proposalReport{
		KeyID: k.ID, Entries: []string{}, Covers: coverageReport{p.Coverage.Addresses, p.Coverage.Requests}, Adds: p.Coverage.Adds,
		LeftOut: leftOutReports(p.LeftOut), Flags: []flagReport{}, Complete: u.Complete(since), Details: []entryReport{},
	}
	for _, e := range p.Entries {
		entry := keystore.FormatWhitelistEntry(e.Prefix)
		r.Entries = append(r.Entries, entry)
		r.Details = append(r.Details, entryReport{entry, e.Addresses, e.Requests, e.Days, e.Adds})
	}
	return r
}

func leftOutReports(list []usage.LeftOut) []leftOutReport {
	reports := make([]leftOutReport, len(list))
	for i, l := range list {
		reports[i] = leftOutReport{usage.FormatNetwork(l.Network), l.Requests, l.Reason}
	}
	return reports
}

// flagProposal returns the doubtful addresses that the proposal covers.
func flagProposal(ctx context.Context, e keystore.Editor, s usage.Store, k *keystore.Key, u *usage.KeyUsage, p *usage.Proposal, since time.Time) ([]flagReport, error) {
	list := keystore.NewWhitelist(p.Prefixes())
	var covered []netip.Prefix
	for _, a := range u.Addresses(since) {
		if a.Allowed > 0 && len(p.Entries) > 0 && usage.Listed(list, a.Network) {
			covered = append(covered, a.Network)
		}
	}
	sharers, err := s.Sharers(ctx, covered, since)
	if err != nil {
		return nil, err
	}
	flags := []flagReport{}
	owners := map[string]string{k.ID: ownerOf(k)}
	for _, n := range covered {
		if flag := usage.SpecialPurpose(n); flag != "" {
			flags = append(flags, flagReport{Address: usage.FormatNetwork(n), Flag: flag})
		}
		others, err := otherOwners(ctx, e, k.ID, sharers[n], owners)
		if err != nil {
			return nil, err
		}
		if others > 0 {
			flags = append(flags, flagReport{usage.FormatNetwork(n), usage.Shared, others})
		}
	}
	return flags, nil
}

// otherOwners returns how many owners other than that of the key id have one of the keys. It caches
// owners in owners.
func otherOwners(ctx context.Context, e keystore.Editor, id string, keys []string, owners map[string]string) (int, error) {
	var others []string
	for _, other := range keys {
		owner, ok := owners[other]
		if !ok {
			k, err := e.Key(ctx, other)
			switch {
			case errors.Is(err, keystore.ErrNotFound):
				owner = owners[id] // the key was deleted
			case err != nil:
				return 0, err
			default:
				owner = ownerOf(k)
			}
			owners[other] = owner
		}
		if owner != owners[id] && !slices.Contains(others, owner) {
			others = append(others, owner)
		}
	}
	return len(others), nil
}

// ownerOf returns the key's external id, or for a key without one, its id.
func ownerOf(k *keystore.Key) string {
	if k.ExternalID != "" {
		return "external_id " + k.ExternalID
	}
	return "key " + k.ID
}

func (r *proposalReport) text(w io.Writer) error {
	if len(r.Entries) == 0 {
		fmt.Fprintf(w, "%s: nothing to propose: no recorded use qualifies\n", r.KeyID)
	} else {
		fmt.Fprintf(w, "%s: %d ranges cover %d addresses with %d requests, and add %d addresses that were not seen\n",
			r.KeyID, len(r.Entries), r.Covers.Addresses, r.Covers.Requests, r.Adds)
	}
	if !r.Complete {
		fmt.Fprintln(w, "Not complete: some addresses were dropped, because there were too many. The most used and the newest are kept.")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Details) > 0 {
		fmt.Fprintln(t, "ENTRY\tADDRESSES\tREQUESTS\tDAYS\tADDS")
	}
	for _, e := range r.Details {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", e.Entry, e.Addresses, e.Requests, e.Days, e.Adds)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s with %d requests: %s\n", l.Address, l.Requests, l.Reason)
	}
	for _, f := range r.Flags {
		if f.Flag == usage.Shared {
			fmt.Fprintf(w, "note: %s is shared: keys of %d other owners are used from it too\n", f.Address, f.Owners)
			continue
		}
		fmt.Fprintf(w, "note: %s is a %s address\n", f.Address, f.Flag)
	}
	if r.Applied {
		fmt.Fprintf(w, "applied: %s may be used from these ranges\n", r.KeyID)
	}
	return nil
}

// An evaluationReport is what a whitelist would have refused, as printed.
type evaluationReport struct {
	KeyID           string          `json:"keyId"`
	Refused         []leftOutReport `json:"refused"`
	RefusedRequests uint64          `json:"refusedRequests"`
	Requests        uint64          `json:"requests"`
	Complete        bool            `json:"complete"`
}

func (f *keyProposeFlags) runEvaluate(w io.Writer, u *usage.KeyUsage) error {
	var list []string
	for entry := range strings.SplitSeq(f.evaluate, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	entries, err := parseEntries(list)
	if err != nil {
		return fmt.Errorf("--evaluate: %w", err)
	}
	if len(entries) == 0 {
		return errors.New("--evaluate: the whitelist is empty: write addresses or ranges, such as 192.0.2.0/24,2001:db8::/32")
	}
	e := usage.Evaluate(u, keystore.NewWhitelist(entries), f.options.Since)
	report := evaluationReport{u.KeyID, leftOutReports(e.Refused), e.RefusedRequests, e.Requests, u.Complete(f.options.Since)}
	if f.json {
		return printJSON(w, report)
	}
	fmt.Fprintf(w, "%s: the whitelist would have refused %d of %d requests, from %d addresses\n", u.KeyID, e.RefusedRequests, e.Requests, len(e.Refused))
	for _, r := range report.Refused {
		fmt.Fprintf(w, "%s: %d requests, %s\n", r.Address, r.Requests, r.Reason)
	}
	return nil
}
