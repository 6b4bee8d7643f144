package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"extauthz/backend"
	"extauthz/importer"
)

// importBatch is how many keys are written together. After an interruption, up to one batch is written
// again. Tests use a smaller one.
var importBatch = 10_000

const (
	// importWriters is how many parts of a batch are written at the same time.
	importWriters = 4

	// batchTimeout is how long one batch may take; for a key file it is the whole import.
	batchTimeout = 10 * time.Minute

	// maxDifferences is how many of the keys that an import left unchanged are listed.
	maxDifferences = 20
)

type keyImportFlags struct {
	configFlags
	from, after string
	overwrite   bool
}

func newKeyImportCommand() *cobra.Command {
	f := &keyImportFlags{}
	cmd := &cobra.Command{
		Use:   "import --from FILE|-",
		Short: "Write the keys of a key file into a store",
		Long: `Write the keys of a key file, such as one that export wrote, to the configured store. A key whose
id is already in the store is left unchanged, so that an old file cannot undo later changes: a
disabled key stays disabled. No key is deleted, but a key that was deleted from the store is
added again.

The command prints how many keys it added, and how many are the same or different in the store.
--overwrite replaces the different ones with those of the file, and lists each key that works
again because of that.

A large file is read and written in batches, with little memory; a key file is always written as
a whole. At an error in the file, the keys of the batches before it are written, and the command
prints the last of them: --after ID continues from there.
` + "`extauthz validate --keys FILE` finds errors beforehand.",
		Example: `  extauthz key import --from keys.yaml --config extauthz.yaml
  extauthz key export --config old.yaml | extauthz key import --from - --config new.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "the key file, or - for standard input")
	cmd.Flags().StringVar(&f.after, "after", "", "skip the file's keys up to the one with this id")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace keys that are different in the store, including disabled ones")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagFilename("from", "yaml", "yml")
	return cmd
}

func (f *keyImportFlags) run(cmd *cobra.Command) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	file, err := importer.Open(f.from, cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer file.Close()
	e, err := backend.OpenEditor(cmd.Context(), cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer e.Close()
	// An interrupted import prints its last key.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bar := newProgressBar(cmd.ErrOrStderr(), file.Size)
	report := &importReport{overwrite: f.overwrite, now: time.Now(), print: func(format string, args ...any) {
		_ = bar.Clear()
		fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
	}}
	options := importer.Options{
		Editor: e, BatchSize: importBatch, Writers: importWriters, Timeout: batchTimeout,
		After: f.after, Overwrite: f.overwrite, OnDifferent: report.different,
		OnProgress: func(r importer.Result, bytes int) {
			bar.Describe(countKeys(r.Keys()))
			_ = bar.Set(bytes)
		},
	}
	if cfg.Store.YAML != nil {
		options.BatchSize, options.Writers = math.MaxInt, 1 // a key file is always written whole
	}
	result, err := importer.Run(ctx, file, options)
	_ = bar.Clear()
	report.end()
	switch {
	case err != nil && result.Last != "":
		return errors.Join(err, fmt.Errorf("before that, up to the key %s: %s: --after %s continues from there", result.Last, report.counts(result), result.Last))
	case err != nil:
		return err
	case f.after != "" && result.Keys() == 0 && !result.Passed:
		return fmt.Errorf("--after: there is no key %q in %s", f.after, file.Name)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), report.counts(result))
	return err
}

// An importReport prints which keys differ in the store.
type importReport struct {
	overwrite bool
	now       time.Time
	print     func(format string, args ...any) // one line
	leftAlone int
}

// different prints a key that was left unchanged, or one that works again.
func (r *importReport) different(d importer.Difference) {
	if r.overwrite {
		if restored := d.Restored(r.now); len(restored) > 0 {
			r.print("%s works again: %s", d.File.ID, strings.Join(restored, ", "))
		}
		return
	}
	if r.leftAlone++; r.leftAlone > maxDifferences {
		return
	}
	what := strings.Join(d.Fields(), ", ")
	if d.Stored.Broken != nil {
		what = "its record there cannot be read"
	}
	r.print("%s is different in the store (%s): left unchanged", d.File.ID, what)
}

func (r *importReport) end() {
	if n := r.leftAlone - maxDifferences; n > 0 {
		r.print("%d more are different in the store: left unchanged", n)
	}
}

func (r *importReport) counts(result importer.Result) string {
	different := fmt.Sprintf("%d different", result.Different)
	switch {
	case r.overwrite:
		different = fmt.Sprintf("%d overwritten", result.Different)
	case result.Different > 0:
		different += ": left unchanged (--overwrite replaces them)"
	}
	return fmt.Sprintf("%d added, %d same, %s", result.Added, result.Same, different)
}

// newProgressBar returns a bar over size bytes, or over an unknown number if size is -1. It only
// appears on a terminal.
func newProgressBar(w io.Writer, size int64) *progressbar.ProgressBar {
	file, ok := w.(*os.File)
	shown := ok && term.IsTerminal(int(file.Fd()))
	if size == 0 {
		size = 1 // 0 is not a valid length for a bar
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(shown),
		progressbar.OptionShowBytes(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // otherwise it is drawn after it was cleared
	)
}
