// Command bench compares extauthz with its alternatives, alternating between them in one run.
// `make bench` runs it.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 4 && args[0] == "peer" {
		return servePeer(args[1], args[2], args[3])
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bed{}
	f.StringVar(&b.extauthz, "extauthz", "../bin/extauthz", "the program that is measured")
	f.StringVar(&b.envoy, "envoy", "../.tools/envoy", "the Envoy that it is measured with")
	f.StringVar(&b.module, "module", "../bin/libextauthz.so", "the dynamic module that is measured")
	only := f.String("only", "", "measure and show only this: inside (the dynamic module beside a sidecar) or reload")
	out := f.String("out", "", "the folder for the results, the tables and the plots")
	short := f.Bool("quick", false, "measure less, and less often")
	rounds := f.Int("rounds", 0, "how often each thing is measured")
	d := f.Duration("time", 0, "for how long each time")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if b.module, err = filepath.Abs(b.module); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer b.close()
	p, name := full, "full"
	if *short {
		p, name = quick, "quick"
	}
	p.rounds, p.time = cmp.Or(*rounds, p.rounds), cmp.Or(*d, p.time)
	if f.NArg() > 0 {
		return compare(ctx, b, f.Args(), p.rounds, p.time)
	}
	if *only != "" {
		return show(ctx, b, p, *only)
	}
	r, err := everything(ctx, b, p, name)
	if err != nil {
		return err
	}
	fmt.Print(r.markdown())
	if *out != "" {
		err = r.write(*out)
	}
	return err
}

// show measures and prints a part of everything.
func show(ctx context.Context, b *bed, p plan, part string) error {
	switch part {
	case "inside":
		return showInside(ctx, b, p)
	case "reload":
		return showReload(ctx, b, p)
	}
	return fmt.Errorf("-only %s: it is inside or reload", part)
}
