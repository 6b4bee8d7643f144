package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"extauthz/authz"
	"extauthz/backend"
	"extauthz/keystore"
)

const (
	checkName     = "check"
	exitRefused   = 1
	exitUndecided = 2
)

type checkFlags struct {
	configFlags
	route      routeFlags
	secret, ip string
	json       bool
}

func newCheckCommand() *cobra.Command {
	f := &checkFlags{}
	cmd := &cobra.Command{
		Use:   checkName,
		Short: "Explain one decision, check by check",
		Long: `Make the decision that the server would make for a secret from an address, and explain
it check by check. Nothing is sent to a server, and nothing is changed.

What stands on a command line can be seen by others on the machine and stays in the shell's
history: --secret - reads the secret from standard input.

What the route asks for is given by --permissions and --ratelimits, or found by --host, --method
and --path in the configuration's routes; without them it asks for nothing. No rate limit is
spent. Limits that are counted in memory are the server's own: they are told as if nothing
were spent yet.

Exit codes: 0 where the request would be allowed, 1 where it would be refused, 2 where it
could not be told, for wrong flags, a bad configuration or a store out of reach.`,
		Example: `  printf %s "$SECRET" | extauthz check --keys keys.yaml --secret - --ip 192.0.2.7
  extauthz check --config extauthz.yaml --secret - --ip 192.0.2.7 --path /admin < secret.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	f.route.register(cmd)
	cmd.Flags().StringVar(&f.secret, "secret", "", "the secret that the caller sends; - reads it from standard input")
	cmd.Flags().StringVar(&f.ip, "ip", "", `the client address; "" for one that could not be determined`)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) error {
	request, err := f.request(cmd)
	if err != nil {
		return err
	}
	cfg, err := f.load()
	if err != nil {
		return err
	}
	store, err := backend.OpenStore(cmd.Context(), cfg.Store, backend.StoreHooks{})
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()
	if err := f.route.demand(cmd, cfg, &request); err != nil {
		return err
	}
	limits, err := backend.OpenLimiter(ctx, cfg.Ratelimit)
	if err != nil {
		return err
	}
	defer limits.Close()
	decision, steps, failure := backend.NewAuthorizer(cfg, store, limits, backend.AuthorizerHooks{}).Explain(ctx, request)
	if failure != nil {
		decision.Code = authz.Unavailable
	}
	result := newCheckResult(decision, steps, request.ClientAddr)
	result.DryRun = cfg.DryRun
	write := result.text
	if f.json {
		write = result.json
	}
	switch err := write(cmd.OutOrStdout()); {
	case err != nil:
		return err
	case failure != nil:
		return fmt.Errorf("no decision could be made: %w", failure)
	case !decision.Code.Allowed():
		return exitError(exitRefused)
	}
	return nil
}

// request reads the flags that say what is asked.
func (f *checkFlags) request(cmd *cobra.Command) (authz.Request, error) {
	var r authz.Request
	if !cmd.Flags().Changed("secret") || !cmd.Flags().Changed("ip") {
		return r, errors.New("--secret and --ip say what is asked: give both; --secret - reads the secret from standard input, and --ip \"\" is an address that could not be determined")
	}
	var err error
	if r.Secret = keystore.Secret(f.secret); f.secret == "-" {
		if r.Secret, err = readSecret(cmd.InOrStdin()); err != nil {
			return r, err
		}
	}
	if f.ip == "" {
		return r, nil
	}
	p, err := keystore.ParseWhitelistEntry(f.ip)
	switch {
	case err != nil:
		return r, fmt.Errorf("--ip: %w", err)
	case strings.Contains(f.ip, "/"):
		return r, fmt.Errorf("--ip: %s is a range: write one address of it, such as %s", f.ip, p.Addr())
	}
	r.ClientAddr = p.Addr()
	return r, nil
}

// A checkResult is one explained decision as it is printed.
type checkResult struct {
	Valid         bool        `json:"valid"`
	Code          string      `json:"code"`
	KeyID         string      `json:"keyId,omitempty"`
	ClientAddress string      `json:"clientAddress,omitempty"`
	DryRun        bool        `json:"dryRun,omitempty"` // the server lets it through all the same
	Checks        []checkStep `json:"checks"`
}

type checkStep struct {
	Code   string `json:"code"` // what a request is told where the check does not hold
	Ran    bool   `json:"ran"`
	Holds  bool   `json:"holds"`
	Detail string `json:"detail,omitempty"`
}

func newCheckResult(d authz.Decision, steps []authz.Step, addr netip.Addr) *checkResult {
	r := &checkResult{Valid: d.Code.Allowed(), Code: d.Code.String()}
	if d.Key != nil {
		r.KeyID = d.Key.ID
	}
	if addr.IsValid() {
		r.ClientAddress = addr.String()
	}
	for _, s := range steps {
		r.Checks = append(r.Checks, checkStep{s.Code.String(), s.Ran, s.Holds, s.Detail})
	}
	return r
}

func (r *checkResult) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

func (r *checkResult) text(w io.Writer) error {
	outcome := "refused"
	switch {
	case r.Valid:
		outcome = "allowed"
	case r.Code == authz.Unavailable.String():
		outcome = "no decision could be made"
	}
	if r.DryRun && !r.Valid {
		outcome += ", and let through all the same by the dry run"
	}
	var b strings.Builder
	for _, s := range r.Checks {
		switch {
		case s.Ran && s.Holds:
			fmt.Fprintf(&b, "ok     %s\n", s.Detail)
		case s.Ran:
			fmt.Fprintf(&b, "FAILS  %s\n", s.Detail)
		default:
			fmt.Fprintf(&b, "-      not reached: %s\n", s.Code)
		}
	}
	fmt.Fprintf(&b, "\n%s: %s\n", r.Code, outcome)
	_, err := io.WriteString(w, b.String())
	return err
}
