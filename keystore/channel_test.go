package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/keystore"
)

func TestKeepListening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var calls, reports []string
		// Up in the fourth and the tenth call, for a minute each.
		listen := func(ctx context.Context, up func()) error {
			calls = append(calls, time.Since(start).String())
			switch n := len(calls); n {
			case 4, 10:
				up()
				time.Sleep(time.Minute)
				return fmt.Errorf("lost in call %d", n)
			case 12:
				cancel()
				<-ctx.Done()
				return errors.New("must not be reported")
			default:
				return fmt.Errorf("failed in call %d", n)
			}
		}
		err := keystore.KeepListening(ctx, listen, func(up bool, reason error) {
			reports = append(reports, fmt.Sprint(up, " ", reason))
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("returned %v, want ctx's error", err)
		}
		want := []string{
			"0s", "100ms", "300ms", "700ms", // waits of 100, 200 and 400 ms
			"1m0.8s", "1m1s", "1m1.4s", "1m2.2s", "1m3.2s", "1m4.2s",
			"2m4.3s", "2m4.5s",
		}
		if !slices.Equal(calls, want) {
			t.Errorf("called at %q, want %q", calls, want)
		}
		want = []string{"false failed in call 1", "true <nil>", "false lost in call 4", "true <nil>", "false lost in call 10"}
		if !slices.Equal(reports, want) {
			t.Errorf("reported %q, want %q", reports, want)
		}
	})
}

func TestKeepListeningWithoutReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := keystore.KeepListening(ctx, func(_ context.Context, up func()) error { up(); return errors.New("lost") }, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
