package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"extauthz/backend"
	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// importBatch is how many keys are written at once, and may have to be written again where an
// import was interrupted.
const importBatch = 10_000

// importWriters is how many parts of a batch are written at the same time.
const importWriters = 4

type keyImportFlags struct {
	configFlags
	from, after string
}

func newKeyImportCommand() *cobra.Command {
	f := &keyImportFlags{}
	cmd := &cobra.Command{
		Use:   "import --from FILE|-",
		Short: "Write the keys of a key file into a store",
		Long: `Write the keys of a key file, such as export writes, into the store that the configuration
names. A key whose id is there already becomes what the file says; what is so already is left
alone, so that an import may be run again. No key is deleted.

A large file is read and written part by part, so that it takes little memory; into a key file,
all keys are written at once. Where a file has a mistake in it, the keys before that are written,
and the import says how far it came: --after ID goes on from there.
` + "`extauthz validate --keys FILE` finds mistakes beforehand.",
		Example: `  extauthz key import --from keys.yaml --config extauthz.yaml
  extauthz key export --config old.yaml | extauthz key import --from - --config new.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "the key file; - for standard input")
	cmd.Flags().StringVar(&f.after, "after", "", "leave out the file's keys up to the one with this id")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagFilename("from", "yaml", "yml")
	return cmd
}

func (f *keyImportFlags) run(cmd *cobra.Command) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	text, err := openKeyText(f.from, cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer text.Close()
	e, err := backend.OpenEditor(cmd.Context(), cfg.Store)
	if err != nil {
		return err
	}
	defer e.Close()
	size, writers := importBatch, importWriters
	if cfg.Store.YAML != nil {
		size, writers = math.MaxInt, 1 // each time, the whole file is written
	}
	// Where it is interrupted, it says how far it came.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	i := &importer{editor: e, writers: writers, bar: newProgress(cmd.ErrOrStderr(), text.size)}
	err = i.run(ctx, ahead(ctx, batches(yamlfile.Parts(text.name, text), size, f.after)))
	_ = i.bar.Clear()
	switch {
	case err != nil && i.last != "":
		return errors.Join(err, fmt.Errorf("%s imported before that, up to %s: --after %s goes on from there", wereKeys(i.keys), i.last, i.last))
	case err != nil:
		return err
	case f.after != "" && i.keys == 0 && !i.passed:
		return fmt.Errorf("--after: there is no key %q in %s", f.after, text.name)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s imported\n", wereKeys(i.keys))
	return err
}

// A batch is some keys to write at once.
type batch struct {
	keys   []*keystore.Key
	end    int  // how many bytes of the file were read by then
	passed bool // the key to go on after was seen
	err    error
}

// batches gathers the parts of a file, leaving out those up to the key with the id after.
func batches(parts iter.Seq2[yamlfile.Part, error], size int, after string) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		b := batch{passed: after == ""}
		for p, err := range parts {
			if err != nil {
				if len(b.keys) == 0 || yield(b) {
					yield(batch{err: err, passed: b.passed})
				}
				return
			}
			b.end = p.End
			for _, k := range p.Keys {
				if b.passed {
					b.keys = append(b.keys, k)
				}
				b.passed = b.passed || k.ID == after
			}
			if len(b.keys) >= size {
				if !yield(b) {
					return
				}
				b = batch{passed: true}
			}
		}
		yield(b)
	}
}

// ahead makes the next batch while the one before is worked on. Once ctx is done, it ends with
// an error, also while more of the file is waited for.
func ahead(ctx context.Context, batches iter.Seq[batch]) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		made, cancel := context.WithCancel(ctx)
		defer cancel()
		next := make(chan batch)
		go func() {
			defer close(next)
			for b := range batches {
				select {
				case next <- b:
				case <-made.Done():
					return
				}
			}
		}()
		for {
			var b batch
			ok := false
			select {
			case b, ok = <-next:
			case <-ctx.Done():
			}
			switch {
			case !ok && ctx.Err() != nil:
				yield(batch{err: context.Cause(ctx)})
				return
			case !ok || !yield(b):
				return
			}
		}
	}
}

// An importer writes batches of keys.
type importer struct {
	editor  keystore.Editor
	writers int
	bar     *progressbar.ProgressBar
	keys    int    // written
	last    string // the id of the last one
	passed  bool
}

func (i *importer) run(ctx context.Context, batches iter.Seq[batch]) error {
	for b := range batches {
		if i.passed = i.passed || b.passed; b.err != nil {
			return b.err
		}
		if len(b.keys) == 0 {
			continue
		}
		if err := i.put(ctx, b.keys); err != nil {
			return err
		}
		i.keys += len(b.keys)
		i.last = b.keys[len(b.keys)-1].ID
		i.bar.Describe(countKeys(i.keys))
		_ = i.bar.Set(b.end)
	}
	return nil
}

// batchTimeout is how long one batch may take; for a key file it is the whole import.
const batchTimeout = 10 * time.Minute

// put writes one batch, in parts at the same time.
func (i *importer) put(ctx context.Context, keys []*keystore.Key) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	var wg sync.WaitGroup
	size := (len(keys) + i.writers - 1) / i.writers
	errs := make([]error, i.writers)
	n := 0
	for part := range slices.Chunk(keys, size) {
		err := &errs[n]
		n++
		wg.Go(func() {
			if e := i.editor.Put(ctx, part); e != nil {
				*err = fmt.Errorf("importing the keys from %s to %s: %w", part[0].ID, part[len(part)-1].ID, e)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// newProgress returns a bar over so many bytes, or over what comes where that is -1. It is shown
// on a terminal alone.
func newProgress(w io.Writer, size int64) *progressbar.ProgressBar {
	file, ok := w.(*os.File)
	shown := ok && term.IsTerminal(int(file.Fd()))
	if size == 0 {
		size = 1 // it knows no bar over nothing
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(shown),
		progressbar.OptionShowBytes(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it is drawn after it was cleared
	)
}
