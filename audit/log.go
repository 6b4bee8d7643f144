package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"extauthz/keystore"
)

// A Log writes one line of JSON for each edit. It is a copy of the trail in the store: an edit is made
// even if its line cannot be written.
type Log struct {
	// Path is the file, which is created for its owner only, and opened for each edit, so that it
	// may be renamed at any time. Empty: Writer is used.
	Path   string
	Writer io.Writer

	// OnError is called for an edit that was made, but could not be logged.
	OnError func(error)

	mu sync.Mutex // held while lines are written
}

// write appends the records in one write.
func (l *Log) write(records ...Record) {
	var lines bytes.Buffer
	for _, r := range records {
		line, err := r.Line()
		if err != nil {
			l.failed(err)
			continue
		}
		lines.Write(append(line, '\n'))
	}
	if lines.Len() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Path == "" {
		_, err := l.Writer.Write(lines.Bytes())
		l.failed(err)
		return
	}
	f, err := os.OpenFile(l.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.failed(err)
		return
	}
	_, err = f.Write(lines.Bytes())
	l.failed(errors.Join(err, f.Close()))
}

func (l *Log) failed(err error) {
	if err != nil && l.OnError != nil {
		l.OnError(fmt.Errorf("the edit was made, but could not be written to the audit log: %w", err))
	}
}

// Logged returns an editor that also writes each edit to a log; e itself if the log is nil.
func Logged(e Editor, l *Log) Editor {
	if l == nil {
		return e
	}
	return &loggedEditor{Editor: e, log: l}
}

type loggedEditor struct {
	Editor
	log *Log
}

func (e *loggedEditor) write(ctx context.Context, before, after *keystore.Key) {
	if edit := New(ctx, before, after, time.Now()); edit.Action != Change || len(edit.Changes) > 0 {
		e.log.write(Record{Edit: edit})
	}
}

func (e *loggedEditor) Add(ctx context.Context, k *keystore.Key) error {
	err := e.Editor.Add(ctx, k)
	if err == nil {
		e.write(ctx, nil, k)
	}
	return err
}

func (e *loggedEditor) AddAbsent(ctx context.Context, keys []*keystore.Key) ([]*keystore.Key, error) {
	existing, err := e.Editor.AddAbsent(ctx, keys)
	if err != nil {
		return existing, err
	}
	held := make(map[string]bool, len(existing))
	for _, k := range existing {
		held[k.ID] = true
	}
	var added []*keystore.Key
	for _, k := range keys {
		if !held[k.ID] {
			added = append(added, k)
		}
	}
	if len(keys) <= Detailed {
		for _, k := range added {
			e.write(ctx, nil, k)
		}
	} else if len(added) > 0 {
		e.log.write(Bulk(New(ctx, nil, added[0], time.Now()), ids(added))...)
	}
	return existing, nil
}

// Put logs the fields of at most [Detailed] keys, as it reads each of them before.
func (e *loggedEditor) Put(ctx context.Context, keys []*keystore.Key) error {
	before := make(map[string]*keystore.Key)
	if len(keys) <= Detailed {
		for _, k := range keys {
			was, err := e.Key(ctx, k.ID)
			switch {
			case err == nil:
				before[k.ID] = was
			case !errors.Is(err, keystore.ErrNotFound):
				return err
			}
		}
	}
	if err := e.Editor.Put(ctx, keys); err != nil {
		return err
	}
	if len(keys) <= Detailed {
		for _, k := range keys {
			e.write(ctx, before[k.ID], k)
		}
		return nil
	}
	e.log.write(Bulk(New(ctx, keys[0], keys[0], time.Now()), ids(keys))...)
	return nil
}

func (e *loggedEditor) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	var before, after *keystore.Key // of the last call
	err := e.Editor.Update(ctx, id, func(k *keystore.Key) error {
		before, after = k.Clone(), k
		return change(k)
	})
	if err == nil {
		e.write(ctx, before, after)
	}
	return err
}

func (e *loggedEditor) Delete(ctx context.Context, id string) error {
	before, err := e.Key(ctx, id)
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	err = e.Editor.Delete(ctx, id)
	if err == nil && before != nil {
		e.write(ctx, before, nil)
	}
	return err
}

// Search implements [keystore.Searcher].
func (e *loggedEditor) Search(ctx context.Context, q keystore.Query) ([]*keystore.Key, error) {
	return keystore.Search(ctx, e.Editor, q)
}

func ids(keys []*keystore.Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.ID
	}
	return list
}
