package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"extauthz/authz"
	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/keystore"
)

const (
	checkName     = "check"
	exitRefused   = 1
	exitUndecided = 2
)

type checkFlags struct {
	configFlags
	request     requestFlags
	secret, key string
	json        bool
}

func newCheckCommand() *cobra.Command {
	f := &checkFlags{}
	cmd := &cobra.Command{
		Use:   checkName,
		Short: "Explain one decision, check by check",
		Long: `Make the decision that the server would make for a request, and explain it check by check.
Nothing is sent to a server, nothing is changed, and no rate limit is spent. Limits that are
counted in memory belong to the server: they are shown as if nothing were spent yet.

The key is given by --key, with its id, or by --secret. Other users of the machine can read a
command line, and the shell keeps it in its history: --secret - reads the secret from standard
input.

The client address is found as the configuration's client_address says, in what the server
receives from Envoy: --peer is the address of the connection to Envoy, --xff the line of
x-forwarded-for with what Envoy appended, --header any other header. Or give it by --ip.

What the route requires is given by --permissions and --ratelimits, as in Envoy's context
extensions, or found by --host, --method and --path in the configuration's routes.

Exit codes: 0 if the request would be allowed, 1 if it would be refused, 2 if no decision could
be made: wrong flags, an error in the configuration, or a store out of reach.`,
		Example: `  extauthz check --config extauthz.yaml --key key_acme_prod --peer 10.0.0.1 --xff "192.0.2.7, 10.0.0.1"
  printf %s "$SECRET" | extauthz check --keys keys.yaml --secret - --ip 192.0.2.7
  extauthz check --config extauthz.yaml --secret - --ip 192.0.2.7 --path /admin < secret.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.secret, "secret", "", "the secret that the caller sends; - reads it from standard input")
	cmd.Flags().StringVar(&f.key, "key", "", "the id of the key whose secret the caller sends")
	f.request.register(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) error {
	e, attributes, err := f.read(cmd)
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
	limits, err := backend.OpenLimiter(ctx, cfg.Ratelimit)
	if err != nil {
		return err
	}
	defer limits.Close()
	var lookup keystore.Store = store
	if f.key != "" {
		lookup = keyByID{store, f.key}
	}
	e.authorizer = backend.NewAuthorizer(cfg, lookup, limits, backend.AuthorizerHooks{})
	if cfg.Routes != nil && f.request.path == "" {
		e.result.Notes = append(e.result.Notes, fmt.Sprintf("the configuration's %d routes were not applied: give --path", len(cfg.Routes)))
		cfg.Routes = nil
	}
	if err := e.explain(ctx, cfg, attributes); err != nil {
		return err
	}
	write := e.result.text
	if f.json {
		write = e.result.json
	}
	switch err := write(cmd.OutOrStdout()); {
	case err != nil:
		return err
	case e.err != nil:
		return fmt.Errorf("no decision could be made: %w", e.err)
	case !e.result.Valid:
		return exitError(exitRefused)
	}
	return nil
}

// read reads the flags that describe the request.
func (f *checkFlags) read(cmd *cobra.Command) (*explainer, *check.Attributes, error) {
	given := cmd.Flags().Changed
	e := &explainer{}
	ip, source := f.request.addressGiven(cmd)
	switch {
	case given("secret") == given("key"):
		return nil, nil, errors.New("one of --key and --secret names the key: give the key's id with --key, or its secret with --secret, where - reads it from standard input")
	case given("key") && f.key == "":
		return nil, nil, errors.New("--key is empty: give the id of a key, as `extauthz key list` shows it")
	case ip == source:
		return nil, nil, errors.New("the client address is given by --ip, or found in --peer, --xff and --header: give one or the other; --ip \"\" is an address that could not be determined")
	}
	var err error
	switch {
	case given("key"):
		e.secret = "the key's own" // keyByID finds the key, whatever the secret
	case f.secret == "-":
		if e.secret, err = readSecret(cmd.InOrStdin()); err != nil {
			return nil, nil, err
		}
	default:
		e.secret = keystore.Secret(f.secret)
	}
	if ip {
		addr, err := f.request.clientAddr()
		if err != nil {
			return nil, nil, err
		}
		e.addr = &addr
	}
	e.byID, e.noPeer = given("key"), f.request.peer == ""
	attributes, err := f.request.attributes(cmd)
	return e, attributes, err
}

// keyByID is a store in which every secret is that of one key.
type keyByID struct {
	backend.Store
	id string
}

func (s keyByID) Lookup(ctx context.Context, h keystore.Hash) (*keystore.Key, error) {
	k, err := s.Key(ctx, s.id)
	if err == nil {
		k, err = s.Store.Lookup(ctx, k.Hash) // the record that the server finds
	}
	if errors.Is(err, keystore.ErrNotFound) {
		err = errors.New(aboutKey(s.id, err).Error()) // ErrNotFound would refuse the request
	}
	if err != nil {
		return nil, err
	}
	k = k.Clone()
	k.Hash = h
	return k, nil
}

// An explainer is what decides on the request of a check command: it explains the decision that
// the server would make, for the secret and the client address that flags give.
type explainer struct {
	authorizer *authz.Authorizer
	secret     keystore.Secret
	byID       bool        // the key was given by its id
	noPeer     bool        // --peer names no address
	addr       *netip.Addr // from --ip; nil: as the request has it

	result checkResult
	err    error // why no decision could be made
}

// explain checks the request as the server does, and sets the result.
func (e *explainer) explain(ctx context.Context, cfg *config.Config, a *check.Attributes) error {
	checker, err := backend.NewChecker(cfg, e, backend.CheckerHooks{Observe: e.observe})
	if err != nil {
		return err
	}
	e.err = errors.New("the request was not decided") // unless it was
	checker.Check(ctx, a, &check.Outcome{})
	e.result.DryRun = cfg.DryRun
	return nil
}

// Authorize implements [check.Authorizer].
func (e *explainer) Authorize(ctx context.Context, r authz.Request) (authz.Decision, error) {
	r.Secret = e.secret
	if e.addr != nil {
		r.ClientAddr = *e.addr
	}
	var d authz.Decision
	var steps []authz.Step
	if d, steps, e.err = e.authorizer.Explain(ctx, r); e.err != nil {
		d.Code = authz.Unavailable
	}
	if e.byID {
		steps[0].Detail = "the request is assumed to carry the key's secret"
	}
	e.result.setDecision(d, steps)
	if r.ClientAddr.IsValid() {
		e.result.ClientAddress = r.ClientAddr.String()
	}
	return d, e.err
}

// observe keeps how the client address was found.
func (e *explainer) observe(_ context.Context, o *check.Observation) {
	if e.addr != nil {
		e.result.ClientAddressFrom = "--ip"
		return
	}
	e.result.ClientAddressFrom = strings.Clone(o.AddrFrom)
	if o.AddrErr != nil {
		e.result.ClientAddressError = o.AddrErr.Error()
		if e.noPeer && o.AddrFrom == "peer" {
			e.result.ClientAddressError += ": give it with --peer"
		}
	}
}
