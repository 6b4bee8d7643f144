package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"extauthz/audit"
	"extauthz/keystore"
)

type keyHistoryFlags struct {
	configFlags
	limit int
	json  bool
}

func newKeyHistoryCommand() *cobra.Command {
	f := &keyHistoryFlags{}
	cmd := &cobra.Command{
		Use:   "history ID",
		Short: "Show who changed a key, when, and what",
		Long: `Show the edits of a key, newest first: when, by whom, and which fields changed, before and after.
Secrets and hashes are never recorded. A key that was deleted keeps its history.

Edits by extauthz key and extauthz dashboard are recorded in every store. In Postgres those in SQL
are too, with the database's user.`,
		Example: "  extauthz key history key_acme --limit 20 --config extauthz.yaml",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.register(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 100, fmt.Sprintf("how many edits to show, from 1 to %d", audit.MaxHistory))
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// A historyReport is the history of a key as it is printed.
type historyReport struct {
	KeyID string       `json:"keyId"`
	Edits []audit.Edit `json:"edits"`
}

func (f *keyHistoryFlags) run(cmd *cobra.Command, id string) error {
	if f.limit < 1 || f.limit > audit.MaxHistory {
		return fmt.Errorf("--limit: %d: write a number from 1 to %d", f.limit, audit.MaxHistory)
	}
	return f.withEditor(cmd, func(ctx context.Context, e audit.Editor) error {
		edits, err := e.History(ctx, id, f.limit)
		if err != nil {
			return err
		}
		if len(edits) == 0 {
			if _, err := e.Key(ctx, id); errors.Is(err, keystore.ErrNotFound) {
				return aboutKey(id, err)
			}
			edits = []audit.Edit{} // not null
		}
		r := historyReport{id, edits}
		if f.json {
			return printJSON(cmd.OutOrStdout(), r)
		}
		return r.text(cmd.OutOrStdout())
	})
}

func (r *historyReport) text(w io.Writer) error {
	if len(r.Edits) == 0 {
		_, err := fmt.Fprintf(w, "%s: no edits are recorded\n", r.KeyID)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tACTOR\tACTION\tCHANGES")
	for _, e := range r.Edits {
		changes := make([]string, len(e.Changes))
		for i, c := range e.Changes {
			changes[i] = c.Text()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", moment(e.Time), e.Who(), e.Action, strings.Join(changes, "; "))
	}
	return t.Flush()
}
