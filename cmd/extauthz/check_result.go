package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"extauthz/authz"
)

// A checkResult is one explained decision, as printed.
type checkResult struct {
	Valid bool   `json:"valid"`
	Code  string `json:"code"`
	KeyID string `json:"keyId,omitempty"`

	ClientAddress      string `json:"clientAddress,omitempty"`
	ClientAddressFrom  string `json:"clientAddressFrom,omitempty"`  // peer, x-forwarded-for, a header, or --ip
	ClientAddressError string `json:"clientAddressError,omitempty"` // why there is none

	DryRun bool        `json:"dryRun,omitempty"` // the server would let a refused request through
	Notes  []string    `json:"notes,omitempty"`  // what the result does not consider
	Checks []checkStep `json:"checks"`
}

type checkStep struct {
	Code   string `json:"code"` // of the refusal if the check fails
	Ran    bool   `json:"ran"`
	Holds  bool   `json:"holds"`
	Detail string `json:"detail,omitempty"`
}

func (r *checkResult) setDecision(d authz.Decision, steps []authz.Step) {
	r.Valid, r.Code = d.Code.Allowed(), d.Code.String()
	if d.Key != nil {
		r.KeyID = d.Key.ID
	}
	for _, s := range steps {
		r.Checks = append(r.Checks, checkStep{s.Code.String(), s.Ran, s.Holds, s.Detail})
	}
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
		outcome += ", but let through by the dry run"
	}
	var b strings.Builder
	switch {
	case r.ClientAddress != "":
		fmt.Fprintf(&b, "client address: %s, from %s\n\n", r.ClientAddress, r.ClientAddressFrom)
	case r.ClientAddressError != "":
		fmt.Fprintf(&b, "client address: none, from %s: %s\n\n", r.ClientAddressFrom, r.ClientAddressError)
	default:
		fmt.Fprintf(&b, "client address: none, from %s\n\n", r.ClientAddressFrom)
	}
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
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
