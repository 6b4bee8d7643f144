package main

import (
	"fmt"
	"strings"

	"extauthz/keystore"
)

// A reportCheck finds keys in report mode, so that none is forgotten in it.
type reportCheck struct {
	first []string // ids
	more  int
}

const reportModeShown = 10 // ids

func (r *reportCheck) add(k *keystore.Key) {
	switch {
	case k.Broken != nil || !k.Whitelist.Restricted() || k.WhitelistMode != keystore.Report:
	case len(r.first) < reportModeShown:
		r.first = append(r.first, k.ID)
	default:
		r.more++
	}
}

func (r *reportCheck) report(warn func(error)) {
	if len(r.first) == 0 {
		return
	}
	who := strings.Join(r.first, ", ")
	if r.more > 0 {
		who += fmt.Sprintf(" and %d more", r.more)
	}
	warn(fmt.Errorf("%s in report mode, in which ip_whitelist refuses nobody: %s", countKeys(len(r.first)+r.more), who))
}
