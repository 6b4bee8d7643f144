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
The command contacts no server, changes nothing, and spends no rate limit. Limits that the server
counts in its memory are shown as unused.

Give the key by its id with --key, or by its secret with --secret. Other users of the machine can
read a command line, and the shell keeps it in its history: --secret - reads the secret from
standard input.

Give the client address with --ip, or let the command find it as client_address in the
configuration says, from what Envoy sends: --peer is the address of the connection to Envoy, --xff
a line of x-forwarded-for including what Envoy appended, --header any other header.

Give what the route requires with --permissions and --ratelimits, as in Envoy's context
extensions, or let --host, --method and --path select a rule in the configuration's routes.

Exit codes: 0 if the request would be allowed, 1 if it would be refused, 2 if no decision could
be made because of wrong flags, an error in the configuration, or an unreachable store.`,
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
		return nil, nil, errors.New("exactly one of --key and --secret is required: give the key's id with --key, or its secret with --secret; --secret - reads it from standard input")
	case given("key") && f.key == "":
		return nil, nil, errors.New("--key is empty: give the id of a key; `extauthz key list` shows them")
	case ip == source:
		return nil, nil, errors.New("give either the client address with --ip, or what Envoy sends with --peer, --xff and --header; --ip \"\" means that it could not be determined")
	}
	var err error
	switch {
	case given("key"):
		e.secret = "the key's own" // keyByID finds the key for any secret
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

// keyByID is a store in which every secret belongs to one key.
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

// An explainer is the authorizer of a check command. It explains the decision that the server
// would make, with the secret and the client address from the flags.
type explainer struct {
	authorizer *authz.Authorizer
	secret     keystore.Secret
	byID       bool        // the key was given by its id
	noPeer     bool        // --peer names no address
	addr       *netip.Addr // from --ip; nil if the request's is used

	result checkResult
	err    error // why no decision could be made
}

// explain checks the request as the server does, and sets the result.
func (e *explainer) explain(ctx context.Context, cfg *config.Config, a *check.Attributes) error {
	checker, err := backend.NewChecker(cfg, e, backend.CheckerHooks{Observe: e.observe})
	if err != nil {
		return err
	}
	e.err = errors.New("the request was not decided") // Authorize replaces it
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

// observe records how the client address was found.
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
