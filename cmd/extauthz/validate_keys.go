package main

import (
	"context"
	"errors"
	"fmt"

	"extauthz/backend"
	"extauthz/config"
)

// maxReported is how many broken records, and how many whitelists, are reported individually.
const maxReported = 100

// validateKeys reads every record of the store. It returns how many there are, or -1 if the store
// does not answer, and an error that names the broken ones. A store that does not answer is a
// warning, since it may be unreachable from where the configuration is validated.
func validateKeys(ctx context.Context, s backend.Store, cfg *config.Config, warn func(error)) (keys int, err error) {
	if err := backend.AskReady(ctx, s); err != nil {
		warn(fmt.Errorf("the key store does not answer, so its keys were not checked: %s", oneLine(err)))
		return -1, nil
	}
	var errs []error
	broken := 0
	permissions, trusted, reports := newPermissionCheck(cfg.Roles), newTrustedCheck(cfg.ClientAddress), new(reportCheck)
	defer func() { permissions.report(warn); trusted.report(warn); reports.report(warn) }()
	_, hasWarnings := s.(backend.InMemory)
	warned := 0
	for k, err := range s.Keys(ctx, "") {
		if err != nil {
			return keys, errors.Join(append(errs, err)...)
		}
		keys++
		permissions.add(k)
		trusted.add(k)
		reports.add(k)
		if k.Broken == nil {
			if w := k.Whitelist.Warning(); w != "" && !hasWarnings {
				if warned++; warned <= maxReported {
					warn(fmt.Errorf("key %q: %s", k.ID, w))
				}
			}
			continue
		}
		if broken++; broken <= maxReported {
			errs = append(errs, fmt.Errorf("key %q: %w", k.ID, k.Broken))
		}
	}
	if broken > maxReported {
		errs = append(errs, fmt.Errorf("%d more keys have records that cannot be read", broken-maxReported))
	}
	return keys, errors.Join(errs...)
}
