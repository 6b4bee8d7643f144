package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"extauthz/keystore"
)

const (
	pageSize = 500   // keys per query of a listing
	putSize  = 10000 // keys per transaction of Put
)

var (
	columns   = strings.Split(columnList, ", ")
	insertKey = `INSERT INTO extauthz.keys (` + columnList + `) VALUES (` + placeholders() + `)`
	updateKey = `UPDATE extauthz.keys SET (` + columnList + `) = (` + placeholders() + `) WHERE id = $1`
	addAbsent = `INSERT INTO extauthz.keys (` + columnList + `) SELECT ` + columnList + ` FROM pg_temp.extauthz_put ORDER BY id
		ON CONFLICT (id) DO NOTHING RETURNING id`
	mergeKeys = `INSERT INTO extauthz.keys (` + columnList + `) SELECT ` + columnList + ` FROM pg_temp.extauthz_put ORDER BY id
		ON CONFLICT (id) DO UPDATE SET (` + columnList + `) = (` + qualified("excluded") + `)
		WHERE (` + qualified("keys") + `) IS DISTINCT FROM (` + qualified("excluded") + `)`
)

func placeholders() string {
	list := make([]string, len(columns))
	for i := range list {
		list[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(list, ", ")
}

func qualified(table string) string {
	return table + "." + strings.Join(columns, ", "+table+".")
}

// Keys implements [keystore.Editor]. It reads in pages and holds no connection between them, so that
// keys may be edited in the meantime. It yields invalid rows as Broken keys.
func (s *Store) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return func(yield func(*keystore.Key, error) bool) {
		for {
			page, err := collect(s.pool.Query(ctx, selectKeys+` WHERE id > $1 ORDER BY id LIMIT $2`, after, pageSize))
			if err != nil {
				yield(nil, s.conn.failure(err))
				return
			}
			for _, k := range page {
				if after = k.ID; !yield(k, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// Key implements [keystore.Editor].
func (s *Store) Key(ctx context.Context, id string) (*keystore.Key, error) {
	k, err := one(s.pool.Query(ctx, selectKeys+` WHERE id = $1`, id))
	return k, s.conn.failure(err)
}

// Add implements [keystore.Editor].
func (s *Store) Add(ctx context.Context, k *keystore.Key) error {
	row, err := validRow(k)
	if err != nil {
		return err
	}
	return s.editFailure(k.ID, s.edit(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertKey, row...)
		return err
	}))
}

// AddAbsent implements [keystore.Editor]. It writes 10,000 keys in one transaction.
func (s *Store) AddAbsent(ctx context.Context, keys []*keystore.Key) (existing []*keystore.Key, err error) {
	err = s.inBatches(ctx, keys, func(tx pgx.Tx, ids []string) ([]*keystore.Key, error) {
		rows, err := tx.Query(ctx, addAbsent)
		if err != nil {
			return nil, err
		}
		added, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(added) == len(ids) {
			return nil, err
		}
		slices.Sort(added)
		held := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			_, isAdded := slices.BinarySearch(added, id)
			return isAdded
		})
		return collect(tx.Query(ctx, selectKeys+` WHERE id = ANY($1)`, held))
	}, func(found []*keystore.Key) { existing = append(existing, found...) })
	return existing, err
}

// Put implements [keystore.Editor]. It writes 10,000 keys in one transaction. Of several keys with one
// id it writes the last.
func (s *Store) Put(ctx context.Context, keys []*keystore.Key) error {
	return s.inBatches(ctx, keys, func(tx pgx.Tx, _ []string) ([]*keystore.Key, error) {
		_, err := tx.Exec(ctx, mergeKeys)
		return nil, err
	}, func([]*keystore.Key) {})
}

// inBatches copies the keys into a temporary table, in batches of one transaction each. In the
// transaction it calls write, which writes from the temporary table, and after the commit it calls found
// with what write returned.
func (s *Store) inBatches(ctx context.Context, keys []*keystore.Key,
	write func(tx pgx.Tx, ids []string) ([]*keystore.Key, error), found func([]*keystore.Key),
) error {
	byID := make(map[string][]any, len(keys))
	for _, k := range keys {
		row, err := validRow(k)
		if err != nil {
			return err
		}
		byID[k.ID] = row
	}
	// In order, so that two batches at once wait for each other rather than lock each other out.
	ids := slices.Sorted(maps.Keys(byID))
	for chunk := range slices.Chunk(ids, putSize) {
		var result []*keystore.Key
		put := func(lock string) error {
			return s.edit(ctx, func(tx pgx.Tx) (err error) {
				rows := pgx.CopyFromSlice(len(chunk), func(i int) ([]any, error) { return byID[chunk[i]], nil })
				if err := copyKeys(ctx, tx, lock, rows); err != nil {
					return err
				}
				result, err = write(tx, chunk)
				return err
			})
		}
		err := put(putTogether)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "23505" || pgErr.Code == "40P01") { // unique_violation, deadlock_detected
			err = put(putAlone)
		}
		if err != nil {
			return s.editFailure("", err)
		}
		found(result)
	}
	return nil
}

// Batches are written at the same time. Now and then the same new key in two of them shows first
// in the index of hashes, which ON CONFLICT does not look at, and one of them fails, or waits for
// the other while that waits for it: then it is tried again with no other batch in progress.
const (
	putTogether = `SELECT pg_advisory_xact_lock_shared(hashtext('extauthz put'))`
	putAlone    = `SELECT pg_advisory_xact_lock(hashtext('extauthz put'))`
)

func copyKeys(ctx context.Context, tx pgx.Tx, lock string, rows pgx.CopyFromSource) error {
	if _, err := tx.Exec(ctx, lock); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE extauthz_put (LIKE extauthz.keys) ON COMMIT DROP`); err != nil {
		return err
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "extauthz_put"}, columns, rows)
	return err
}

// Update implements [keystore.Editor]. For a Broken key it writes only Enabled, unless change replaces
// the whole record and sets Broken to nil.
func (s *Store) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	var refused error // by change or for what it made, not by the database
	err := s.edit(ctx, func(tx pgx.Tx) error {
		k, err := one(tx.Query(ctx, selectKeys+` WHERE id = $1 FOR UPDATE`, id))
		if err != nil {
			return err
		}
		before := k.Clone()
		if refused = change(k); refused != nil {
			return refused
		}
		if k.Broken != nil && onlyEnabled(before, k) {
			_, err = tx.Exec(ctx, `UPDATE extauthz.keys SET enabled = $2 WHERE id = $1`, id, k.Enabled)
			return err
		}
		var row []any
		if row, refused = changed(id, k); refused != nil {
			return refused
		}
		_, err = tx.Exec(ctx, updateKey, row...)
		return err
	})
	if refused != nil {
		return refused
	}
	return s.editFailure(id, err)
}

// onlyEnabled reports whether the keys differ in nothing but Enabled.
func onlyEnabled(before, after *keystore.Key) bool {
	before.Enabled = after.Enabled
	was, err := values(before)
	is, err2 := values(after)
	return err == nil && err2 == nil && reflect.DeepEqual(was, is) && before.Whitelist.Equal(after.Whitelist)
}

// changed returns the row of an updated key.
func changed(id string, k *keystore.Key) ([]any, error) {
	switch {
	case k.Broken != nil:
		return nil, fmt.Errorf("key %q cannot be read completely, so it can only be enabled, disabled, replaced or deleted: %w", id, k.Broken)
	case k.ID != id:
		return nil, fmt.Errorf("the id of key %q cannot change", id)
	}
	return validRow(k)
}

// Delete implements [keystore.Editor].
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.conn.failure(s.edit(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM extauthz.keys WHERE id = $1`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = keystore.ErrNotFound
		}
		return err
	}))
}

// edit runs an edit in a transaction that names the actor of ctx to the trigger that records it.
func (s *Store) edit(ctx context.Context, write func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if actor := keystore.Actor(ctx); actor != "" {
			// Without a prepared statement, for the sake of a connection pooler.
			if _, err := tx.Exec(ctx, `SELECT set_config('extauthz.actor', $1, true)`, pgx.QueryExecModeExec, actor); err != nil {
				return err
			}
		}
		return write(tx)
	})
}

// validRow returns the row of a key, or an error if the key is invalid.
func validRow(k *keystore.Key) ([]any, error) {
	err := k.Validate()
	if err == nil {
		err = k.Broken
	}
	var row []any
	if err == nil {
		row, err = values(k)
	}
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", k.ID, err)
	}
	return row, nil
}

// editFailure is failure for an edit of the key with this id, or of several keys if id is "".
func (s *Store) editFailure(id string, err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok || pgErr.Code != "23505": // unique_violation
		return s.conn.failure(err)
	case id == "":
		return keystore.ErrExists
	}
	return fmt.Errorf("key %q: %w", id, keystore.ErrExists)
}
