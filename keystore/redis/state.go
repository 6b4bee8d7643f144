package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// A state is the part of a node's state that has to be polled.
type state struct {
	known bool // false if the user may not call INFO
	swaps int  // how often SWAPDB has run
	infos int  // how often INFO has: it grows between two states, unless the counts were reset
}

// info returns some sections of INFO.
func (t *tracker) info(ctx context.Context, sections ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	return t.conn.Do(ctx, t.conn.B().Info().Section(sections...).Build()).ToString()
}

// value returns the value of a name in INFO, up to the end of the line or a comma, or "" if the
// name is missing.
func value(info, name string) string {
	_, v, _ := strings.Cut(info, "\n"+name)
	if end := strings.IndexAny(v, ",\r\n"); end >= 0 {
		v = v[:end]
	}
	return v
}

// state returns the node's state, or an error if the node does not answer or does not receive
// changes. A replica that is disconnected from its master answers lookups with old data.
func (t *tracker) state(ctx context.Context) (state, error) {
	info, err := t.info(ctx, "replication", "commandstats")
	if _, refused := rueidis.IsRedisErr(err); refused {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	if value(info, "role:") == "slave" && value(info, "master_link_status:") != "up" {
		return state{}, errors.New("the server is a replica that has lost its master")
	}
	s := state{known: strings.Contains(info, "# Commandstats")}
	s.infos, _ = strconv.Atoi(value(info, "cmdstat_info:calls=")) // neither is listed before its first call
	s.swaps, _ = strconv.Atoi(value(info, "cmdstat_swapdb:calls="))
	return s, nil
}

// swappedSince reports whether the database may have been swapped with another one.
func (s state) swappedSince(earlier state) bool {
	return s.known && (s.swaps != earlier.swaps || s.infos <= earlier.infos)
}

// warnings returns the problems that put keys at risk, or nil.
func (t *tracker) warnings(ctx context.Context, s state) error {
	var unknown error
	if !s.known {
		unknown = errors.New("redis: the server does not report how often SWAPDB has run, so a key that is revoked by SWAPDB may work until ttl has passed: allow the user +info, or do not use SWAPDB")
	}
	return errors.Join(unknown, t.mayEvict(ctx), t.empty(ctx))
}

// mayEvict returns an error if the server is configured to evict keys. The volatile policies evict
// only entries with a time to live. A server that does not report its policy is accepted.
func (t *tracker) mayEvict(ctx context.Context) error {
	info, _ := t.info(ctx, "memory")
	if policy := value(info, "maxmemory_policy:"); value(info, "maxmemory:") != "0" && strings.HasPrefix(policy, "allkeys") {
		return fmt.Errorf("redis: maxmemory-policy is %s: a key that is evicted is refused as one that does not exist; set it to noeviction", policy)
	}
	return nil
}

// empty returns an error if the index does not exist. It uses GET, which fails for a sorted set,
// because that requires no additional permission.
func (t *tracker) empty(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if err := t.conn.Do(ctx, t.conn.B().Get().Key(t.names.ids).Build()).Error(); !rueidis.IsRedisNil(err) {
		return nil
	}
	return fmt.Errorf("redis: %s does not exist: the database holds no keys, and all are refused; if it held some, it has lost them", t.names.ids)
}
