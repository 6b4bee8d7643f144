package boltfile

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	bolt "go.etcd.io/bbolt"

	"extauthz/usage"
)

// ReportServer implements [usage.Store].
func (s *Store) ReportServer(_ context.Context, report usage.ServerReport) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	db, err := bolt.Open(s.path, fileMode, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return s.failure(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		servers, err := tx.CreateBucketIfNotExists(serversBucket)
		if err != nil {
			return err
		}
		var gone [][]byte
		err = eachServer(servers, func(name []byte, r usage.ServerReport) {
			if s.now().Sub(r.Time) > usage.ForgetServersAfter {
				gone = append(gone, name)
			}
		})
		if err != nil {
			return err
		}
		for _, name := range gone {
			if err := servers.Delete(name); err != nil {
				return err
			}
		}
		value, err := json.Marshal(report)
		if err != nil {
			return err
		}
		return servers.Put([]byte(report.Name), value)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return s.failure(err)
	}
	return nil
}

// Servers implements [usage.Store].
func (s *Store) Servers(_ context.Context, since time.Time) (reports []usage.ServerReport, err error) {
	err = s.viewTx(func(tx *bolt.Tx) error {
		servers := tx.Bucket(serversBucket)
		if servers == nil {
			return nil
		}
		return eachServer(servers, func(_ []byte, r usage.ServerReport) {
			if !r.Time.Before(since) {
				reports = append(reports, r)
			}
		})
	})
	return reports, err
}

func eachServer(servers *bolt.Bucket, f func(name []byte, r usage.ServerReport)) error {
	return servers.ForEach(func(k, v []byte) error {
		var r usage.ServerReport
		if json.Unmarshal(v, &r) != nil {
			return errBadRecord
		}
		f(k, r)
		return nil
	})
}
