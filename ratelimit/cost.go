package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"extauthz/keystore"
)

// MaxCost is the highest cost of one request under one limit.
const MaxCost = 1_000_000_000

// maxCosts is the maximum length of costs.
const maxCosts = 1000

// Costs are the costs of a request under the limits that its route names. They are immutable and
// safe for concurrent use. Nil names no limits.
type Costs []Cost

// A Cost is the cost of a request under the limit with a name.
type Cost struct {
	Name string
	Cost int64
}

// Of returns the cost under the limit with this name, and whether the name is listed.
func (c Costs) Of(name string) (cost int64, named bool) {
	for _, one := range c {
		if one.Name == name {
			return one.Cost, true
		}
	}
	return 0, false
}

// String returns the costs in the form that [ParseCosts] parses.
func (c Costs) String() string {
	parts := make([]string, len(c))
	for i, one := range c {
		parts[i] = one.Name + "=" + strconv.FormatInt(one.Cost, 10)
	}
	return strings.Join(parts, ", ")
}

// ParseCosts parses costs such as "exports=1, requests=5": comma-separated names of limits, each
// with a whole number from 0 to [MaxCost]. The default cost of a name is 1. The text has at most
// 1,000 characters, and each name appears once; spaces are ignored. Every error has its column, from
// 1, in characters.
//
// A key without a limit of a listed name is not limited by it, so that a route can list the limits
// of different kinds of keys.
func ParseCosts(text string) (Costs, error) {
	if len(text) > maxCosts {
		return nil, fmt.Errorf("column %d: the costs are longer than %d characters: write only those that differ from 1", maxCosts+1, maxCosts)
	}
	var costs Costs
	at := 0
	for part := range strings.SplitSeq(text, ",") {
		column := utf8.RuneCountInString(text[:at+len(part)-len(strings.TrimLeft(part, " \t\r\n"))]) + 1
		at += len(part) + len(",")
		cost, err := parseCost(strings.Trim(part, " \t\r\n"))
		if err == nil {
			if _, twice := costs.Of(cost.Name); twice {
				err = fmt.Errorf("%q is repeated: write each name once", cost.Name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", column, err)
		}
		costs = append(costs, cost)
	}
	return costs, nil
}

func parseCost(part string) (Cost, error) {
	name, number, priced := strings.Cut(part, "=")
	name, number = strings.TrimRight(name, " \t\r\n"), strings.TrimLeft(number, " \t\r\n")
	if name == "" {
		return Cost{}, fmt.Errorf("the name of a limit is missing: write one with its cost, such as exports=1")
	}
	if err := keystore.ValidateID(name); err != nil {
		return Cost{}, fmt.Errorf("the name of a limit: %w", err)
	}
	if !priced {
		return Cost{Name: name, Cost: 1}, nil
	}
	cost, err := strconv.ParseInt(number, 10, 64)
	if err != nil || cost < 0 || cost > MaxCost || number != strconv.FormatInt(cost, 10) {
		return Cost{}, fmt.Errorf("the cost of %s is not a whole number from 0 to %d: write one such as %s=1", name, MaxCost, name)
	}
	return Cost{Name: name, Cost: cost}, nil
}
