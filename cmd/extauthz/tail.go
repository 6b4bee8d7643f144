package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"extauthz/authz"
	"extauthz/config"
	"extauthz/keystore"
)

type tailFlags struct {
	file               string // of the configuration
	key, code, address string
	lines              int
	follow             bool
}

func newTailCommand() *cobra.Command {
	f := &tailFlags{}
	cmd := &cobra.Command{
		Use:   "tail [FILE|-]",
		Short: "Show decisions as the server logs them",
		Long: `Show the last lines of a decision log in columns, and follow it across rotation. The default is the
file of decision_log in the configuration; - reads standard input.

The note would_refuse marks a request that a whitelist in report mode allowed, and stale a key
whose record the store could not confirm.`,
		Example: `  extauthz tail --config extauthz.yaml --code FORBIDDEN
  extauthz tail /var/log/extauthz/decisions.log --key key_acme_prod --address 203.0.113.0/24
  kubectl logs -f deploy/extauthz | extauthz tail -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration file whose decision_log is shown")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.Flags().StringVar(&f.key, "key", "", "show only decisions on the key with this id")
	cmd.Flags().StringVar(&f.code, "code", "", "show only decisions with this code, such as FORBIDDEN")
	cmd.Flags().StringVar(&f.address, "address", "", "show only decisions on client addresses in this range")
	cmd.Flags().IntVarP(&f.lines, "lines", "n", 10, "how many existing decisions to show")
	cmd.Flags().BoolVar(&f.follow, "follow", true, "wait for new decisions")
	return cmd
}

func (f *tailFlags) run(cmd *cobra.Command, args []string) error {
	show, err := f.filter()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	file, isFile := out.(*os.File)
	v := &tailView{out: out, show: show, search: f.key+f.code+f.address != "", color: isFile && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""}
	if len(args) == 1 && args[0] == "-" {
		return v.all(cmd.InOrStdin())
	}
	path, err := f.path(args)
	if err != nil {
		return err
	}
	return v.file(cmd.Context(), path, f.lines, f.follow)
}

// path returns the file to show.
func (f *tailFlags) path(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if f.file == "" {
		return "", errors.New("no decision log given: name its file, or give the configuration with --config")
	}
	cfg, err := config.Load(f.file, config.Overrides{})
	if err != nil {
		return "", err
	}
	switch path := cfg.DecisionLog.Path; path {
	case config.DecisionsNowhere:
		return "", fmt.Errorf("%s has no decision log: write `decision_log: {path: decisions.log}`", f.file)
	case config.DecisionsStdout:
		return "", fmt.Errorf("the decision log of %s is standard output: pipe it into `extauthz tail -`", f.file)
	default:
		return path, nil
	}
}

// filter returns a function that reports whether the flags select a decision.
func (f *tailFlags) filter() (func(*decisionLine) bool, error) {
	code := strings.ToUpper(f.code)
	known := code == ""
	var codes []string
	for _, c := range authz.Codes() {
		known = known || c.String() == code
		codes = append(codes, c.String())
	}
	if !known {
		return nil, fmt.Errorf("--code: %q is not a code: write one of %s", f.code, strings.Join(codes, ", "))
	}
	var in netip.Prefix
	if f.address != "" {
		var err error
		if in, err = keystore.ParseWhitelistEntry(f.address); err != nil {
			return nil, fmt.Errorf("--address: %w", err)
		}
	}
	return func(d *decisionLine) bool {
		addr, _ := netip.ParseAddr(d.ClientAddress)
		return (f.key == "" || d.KeyID == f.key) && (code == "" || d.Code == code) && (f.address == "" || in.Contains(addr))
	}, nil
}

const (
	tailPoll  = 200 * time.Millisecond
	tailBytes = 4 << 20 // how much of the end of the file is read for the first lines, without a filter
)

// all shows every line of r.
func (v *tailView) all(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if shown := v.format(line); shown != "" {
			if _, err := io.WriteString(v.out, shown); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// file shows the last n decisions in the file, and follows it until ctx ends.
func (v *tailView) file(ctx context.Context, path string, n int, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	rest, err := v.last(f, n)
	if err != nil || !follow {
		return err
	}
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	for {
		// Look for a new file before reading the end of the old one, so that nothing is lost.
		next, rotated := reopen(f, path)
		if rest, err = v.more(f, rest); err != nil {
			return err
		}
		if rotated {
			_ = f.Close()
			f, rest = next, nil
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// last shows the last n decisions of the file, and returns the start of a line at its end. Where all
// decisions are shown, it reads only the end of the file.
func (v *tailView) last(f *os.File, n int) (rest []byte, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeDevice != 0 {
		return nil, fmt.Errorf("%s is a device: its decisions cannot be shown", f.Name())
	}
	cut := info.Size() > tailBytes && !v.search
	if cut {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	var shown []string
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			_, err = io.WriteString(v.out, strings.Join(shown[max(0, len(shown)-n):], ""))
			return line, err
		}
		if err != nil {
			return nil, err
		}
		if cut {
			cut = false // the first line is not whole
			continue
		}
		if s := v.format(line); s != "" {
			if shown = append(shown, s); len(shown) > 2*n+1000 {
				shown = append(shown[:0], shown[len(shown)-n:]...)
			}
		}
	}
}

// more shows what was written to the file since the last read, which ended with the incomplete
// line rest.
func (v *tailView) more(f *os.File, rest []byte) ([]byte, error) {
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	text = append(rest, text...)
	end := bytes.LastIndexByte(text, '\n') + 1
	return bytes.Clone(text[end:]), v.all(bytes.NewReader(text[:end]))
}

// reopen opens the file at path if it is no longer f, or was truncated.
func reopen(f *os.File, path string) (*os.File, bool) {
	is, err := f.Stat()
	if err != nil {
		return nil, false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, false
	}
	now, err := os.Stat(path)
	if err != nil || os.SameFile(is, now) && now.Size() >= at {
		return nil, false // during a rotation there may be no file
	}
	next, err := os.Open(path)
	return next, err == nil
}
