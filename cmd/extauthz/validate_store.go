package main

import (
	"context"
	"errors"
	"fmt"

	"extauthz/backend"
	"extauthz/config"
)

// maxBroken is how many broken records are told one by one.
const maxBroken = 100

// validateKeys reads every record of the store, and returns how many there are, and an error
// that names the broken ones. A store that cannot be asked now is a warning: the configuration
// may be right, and be validated where the store is out of reach.
func validateKeys(ctx context.Context, s backend.Store, cfg *config.Config, warn func(error)) (keys int, err error) {
	if err := backend.AskReady(ctx, s); err != nil {
		warn(fmt.Errorf("the key store cannot be asked, so its keys were not looked at: %s", oneLine(err)))
		return -1, nil
	}
	var errs []error
	broken := 0
	rights, trusted := newRightsCheck(cfg.Roles), newTrustedCheck(cfg.ClientAddress)
	defer func() { rights.tell(warn); trusted.report(warn) }()
	_, hasWarnings := s.(backend.InMemory)
	warned := 0
	for k, err := range s.Keys(ctx, "") {
		if err != nil {
			return keys, errors.Join(append(errs, err)...)
		}
		keys++
		rights.look(k)
		trusted.look(k)
		if k.Broken == nil {
			if w := k.Whitelist.Warning(); w != "" && !hasWarnings {
				if warned++; warned <= maxBroken {
					warn(fmt.Errorf("key %q: %s", k.ID, w))
				}
			}
			continue
		}
		if broken++; broken <= maxBroken {
			errs = append(errs, fmt.Errorf("key %q: %w", k.ID, k.Broken))
		}
	}
	if broken > maxBroken {
		errs = append(errs, fmt.Errorf("%d more keys cannot be read whole", broken-maxBroken))
	}
	return keys, errors.Join(errs...)
}
