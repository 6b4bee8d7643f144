package main

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
)

// load sends checks of secretOne over separate connections until stop is called.
func load(t *testing.T, p *process) (stop func()) {
	t.Helper()
	return loadOver(t, func() *grpc.ClientConn { return dial(t, p.listen) }, secretOne, secretOne, secretOne)
}

// loadOver sends checks until stop is called, each secret over a separate connection. stop fails the test if
// a check was lost, or if the decisions about one secret changed more than once: a reload is live at once, and
// whole.
func loadOver(t *testing.T, connect func() *grpc.ClientConn, secrets ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var sent, lost atomic.Int64
	var wg sync.WaitGroup
	decisions := make([][]string, len(secrets)) // of each secret, without repetitions
	for i, secret := range secrets {
		conn := connect()
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := tryCheck(context.WithoutCancel(ctx), t, conn, secret, "10.1.2.3")
				if err != nil {
					t.Log(err)
					lost.Add(1)
				} else if list := decisions[i]; len(list) == 0 || list[len(list)-1] != got {
					decisions[i] = append(list, got)
				}
				sent.Add(1)
			}
		})
	}
	return func() {
		t.Helper()
		cancel()
		wg.Wait()
		if lost.Load() > 0 || sent.Load() == 0 {
			t.Errorf("%d of %d checks were lost", lost.Load(), sent.Load())
		}
		for i, list := range decisions {
			if len(list) > 2 {
				t.Errorf("the decisions about secret %d: %v", i, list)
			}
		}
	}
}
