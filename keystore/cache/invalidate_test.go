package cache_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/keystore/storetest"
)

// ways are the two ways in which a record is invalidated.
var ways = map[string]func(f *fixture){
	"by hash": func(f *fixture) { f.Invalidate(f.known.Hash) },
	"all":     func(f *fixture) { f.InvalidateAll() },
}

func TestCacheInvalidate(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.finds("")
				f.rename("new")
				f.finds("")
				invalidate(f)
				f.finds("new")
				f.asked(2)
				f.finds("new")
				f.asked(2)
				if s := f.Stats(); s.Invalidations != 1 || s.Records != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A record that is known to have changed must be confirmed: it is not served stale, however new it is.
func TestCacheInvalidatedNeverStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		f.Invalidate(f.known.Hash)
		f.fails(errDown)
		f.InvalidateAll() // which does not change that
		f.fails(errDown)
		f.store.Fail(nil)
		f.finds("")
		f.store.Fail(errDown)
		time.Sleep(time.Minute)
		f.finds("") // confirmed since: stale again
	})
}

// A record that may have changed is used for MaxStale after its last confirmation, but only while the store
// does not answer.
func TestCacheSuspectedInOutage(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		f.InvalidateAll()
		f.finds("")
		time.Sleep(5 * time.Minute)
		f.InvalidateAll()
		f.finds("")
		time.Sleep(5*time.Minute - time.Nanosecond)
		f.finds("")
		time.Sleep(time.Nanosecond)
		f.fails(errDown)

		f.store.Fail(nil)
		f.finds("")
		f.store.set(nil, true)
		f.InvalidateAll()
		f.finds("") // after LookupTimeout
		f.finds("") // the store hangs: immediately
		f.store.set(nil, false)
		f.rename("new")
		f.InvalidateAll()
		f.finds("new") // it is looked up again, however soon after the timeout
	})
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.store.Fail(errDown)
		f.InvalidateAll()
		f.fails(errDown)
	}, func(c *cache.Config) { c.MaxStale = 0 })
}

// An invalidated record in use is confirmed in the background, so that it is valid in an outage soon
// afterwards.
func TestCacheConfirmsInBackground(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.finds("")
				f.rename("new")
				invalidate(f)
				f.asked(2)
				f.store.Fail(errDown)
				f.finds("new")
				f.asked(2)
				time.Sleep(10*time.Minute - time.Nanosecond)
				f.finds("new")
			})
		})
	}
}

// A confirmation that fails is tried again until the store answers.
func TestCacheConfirmsAfterAnOutage(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.finds("")
				f.rename("new")
				f.store.Fail(errDown)
				invalidate(f)
				time.Sleep(time.Minute)
				synctest.Wait()
				f.store.mu.Lock()
				asked := f.store.asked
				f.store.mu.Unlock()
				if asked < 30 || asked > 70 {
					t.Errorf("asked %d times in a minute's outage, want about once a second", asked)
				}
				f.store.Fail(nil)
				time.Sleep(2 * time.Second)
				f.asked(asked + 1)
				f.store.Fail(errDown)
				f.finds("new")
				f.asked(asked + 1)
			})
		})
	}
}

// The records in use are confirmed, the most recently used first, a few at a time, without delaying callers.
func TestCacheConfirmsWhatIsInUse(t *testing.T) {
	inBubble(t, func(f *fixture) {
		const n = 2000
		hashes := make([]keystore.Hash, n)
		for i := range hashes {
			k := storetest.NewKey(fmt.Sprintf("key_%d", i))
			hashes[i] = k.Hash
			if err := f.store.Add(f.Context(), k); err != nil {
				t.Fatal(err)
			}
			f.Lookup(f.Context(), k.Hash)
			if i == n/2-1 {
				time.Sleep(11 * time.Minute) // the first half falls out of use
			}
		}
		f.asked(n)
		f.store.delay = time.Millisecond
		f.InvalidateAll()
		for range 10 {
			synctest.Wait()
			if s := f.Stats(); s.InFlight > 2 {
				t.Errorf("%d lookups are under way in the background", s.InFlight)
			}
			start := time.Now()
			f.finds("") // neither busy nor queued
			if time.Since(start) > 2*time.Millisecond {
				t.Errorf("a caller waits %s", time.Since(start))
			}
			time.Sleep(time.Millisecond)
			f.Invalidate(f.known.Hash)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		seen := map[keystore.Hash]int{}
		var last int
		for _, h := range f.store.order[n:] {
			if h == f.known.Hash {
				continue
			}
			seen[h]++
			at := slices.Index(hashes, h)
			if last > 0 && at > last+1 {
				t.Errorf("record %d was confirmed after record %d", at, last)
			}
			last = at
		}
		for i, h := range hashes {
			if want := i / (n / 2); seen[h] != want {
				t.Fatalf("record %d was confirmed %d times, want %d", i, seen[h], want)
			}
		}
	}, func(c *cache.Config) { c.Size, c.MaxInFlight = 10_000, 1 })
}

// More changes than the backlog holds are not forgotten, and none is confirmed twice.
func TestCacheConfirmsManyChanges(t *testing.T) {
	inBubble(t, func(f *fixture) {
		const n = 5000
		for i := range n {
			k := storetest.NewKey(fmt.Sprintf("key_%d", i))
			if err := f.store.Add(f.Context(), k); err != nil {
				t.Fatal(err)
			}
			f.Lookup(f.Context(), k.Hash)
		}
		f.asked(n)
		f.store.delay = time.Millisecond
		for i := range n {
			f.Invalidate(storetest.SecretOf(fmt.Sprintf("key_%d", i)).Hash())
		}
		time.Sleep(time.Minute)
		f.asked(2 * n)
		f.store.Fail(errDown)
		for i := range n {
			if _, err := f.Lookup(f.Context(), storetest.SecretOf(fmt.Sprintf("key_%d", i)).Hash()); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
		}
	}, func(c *cache.Config) { c.Size, c.TTL = 10_000, 10*time.Minute })
}

// The result of a lookup that started before its hash was invalidated is discarded, even if it ends after a
// later lookup.
func TestCacheInvalidateDuringLookup(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				slow := make(chan struct{})
				f.store.set(slow, false)
				var early sync.WaitGroup
				early.Go(func() { f.finds("new") })
				f.asked(1) // the old record is in flight
				f.store.set(nil, false)
				f.rename("new")
				invalidate(f)
				f.finds("new") // does not wait for the lookup in progress
				f.asked(2)
				close(slow)
				early.Wait()
				f.finds("new")
				f.asked(2)
			})
		})
	}
}

// The same if the lookup in progress is the last to end, and there is no other caller.
func TestCacheInvalidateDuringRefresh(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.finds("")
				time.Sleep(50 * time.Second)
				slow := make(chan struct{})
				f.store.set(slow, false)
				f.finds("")
				f.asked(2)
				f.rename("new")
				invalidate(f)
				f.store.set(nil, false)
				close(slow)
				f.asked(3) // again, in the background
				f.finds("new")
				f.asked(3)
			})
		})
	}
}

// A caller whose stale record changes while it waits does not get that record.
func TestCacheInvalidateWhileWaiting(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.finds("")
				f.store.set(nil, true)
				time.Sleep(time.Minute)
				var waiting sync.WaitGroup
				waiting.Go(func() {
					// A record that may have changed is used, because the store hangs.
					if k, err := f.Lookup(f.Context(), f.known.Hash); (err == nil) != (name == "all") {
						t.Errorf("found %v, error %v", k, err)
					}
				})
				synctest.Wait()
				invalidate(f)
				waiting.Wait()
			})
		})
	}
}

func TestCacheNegative(t *testing.T) {
	for name, invalidate := range ways {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				if err := f.store.Delete(f.Context(), f.known.ID); err != nil {
					t.Fatal(err)
				}
				f.fails(keystore.ErrNotFound)
				time.Sleep(5*time.Second - time.Nanosecond)
				f.fails(keystore.ErrNotFound)
				f.asked(1)
				time.Sleep(time.Nanosecond)
				f.fails(keystore.ErrNotFound)
				f.asked(2)
				if err := f.store.Add(f.Context(), f.known); err != nil {
					t.Fatal(err)
				}
				invalidate(f)
				f.finds("") // a new key works at once
				if s := f.Stats(); s.NegativeHits != 1 || s.Negatives != 0 || s.Records != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestCacheNoNegatives(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.store.Delete(f.Context(), f.known.ID)
		f.fails(keystore.ErrNotFound)
		f.fails(keystore.ErrNotFound)
		f.asked(2)
	}, func(c *cache.Config) { c.NegativeTTL = 0 })
}

// A flood of random secrets uses bounded memory, and evicts no records.
func TestCacheFlood(t *testing.T) {
	inBubble(t, func(f *fixture) {
		for i := range 90 {
			k := storetest.NewKey(fmt.Sprintf("key_%d", i))
			if err := f.store.Add(f.Context(), k); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Lookup(f.Context(), k.Hash); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10_000 {
			_, err := f.Lookup(f.Context(), keystore.Secret(fmt.Sprint(i)).Hash())
			if !errors.Is(err, keystore.ErrNotFound) {
				t.Fatal(err)
			}
		}
		f.asked(90 + 10_000)
		for i := range 90 {
			if _, err := f.Lookup(f.Context(), storetest.SecretOf(fmt.Sprintf("key_%d", i)).Hash()); err != nil {
				t.Fatal(err)
			}
		}
		f.asked(90 + 10_000)
		for i := 9_950; i < 10_000; i++ { // those that are still cached
			f.Lookup(f.Context(), keystore.Secret(fmt.Sprint(i)).Hash())
		}
		f.asked(90 + 10_000)
		if s := f.Stats(); s.Records != 90 || s.Negatives != 50 || s.NegativeHits != 50 {
			t.Errorf("%+v", s)
		}
	})
}

// Above the limit, the answer is an immediate error, except for a hash whose lookup is in progress. A flood
// leaves capacity for confirming records.
func TestCacheBusy(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.finds("")
		f.rename("new")
		time.Sleep(time.Minute)
		release := make(chan struct{})
		f.store.set(release, false)
		var flood sync.WaitGroup
		for _, i := range []byte{1, 2, 3, 3} {
			flood.Go(func() { f.Lookup(f.Context(), keystore.Hash{i}) })
		}
		f.asked(1 + 3)
		start := time.Now()
		if _, err := f.Lookup(f.Context(), keystore.Hash{4}); !errors.Is(err, keystore.ErrBusy) || time.Since(start) != 0 {
			t.Errorf("error %v after %s, want ErrBusy at once", err, time.Since(start))
		}
		f.asked(1 + 3)
		if s := f.Stats(); s.Busy != 1 || s.InFlight != 3 {
			t.Errorf("%+v", s)
		}
		f.store.set(nil, false)
		f.finds("new") // not the stale one
		close(release)
		flood.Wait()
		if s := f.Stats(); s.InFlight != 0 {
			t.Errorf("%d in flight when all is quiet", s.InFlight)
		}
		if _, err := f.Lookup(f.Context(), keystore.Hash{4}); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("error %v once there is room", err)
		}
	}, func(c *cache.Config) { c.MaxInFlight = 3 })
}

// A store that is too busy for a lookup is counted as busy, not as failed.
func TestCacheStoreBusy(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.store.Fail(fmt.Errorf("redis: %w", keystore.ErrBusy))
		f.fails(keystore.ErrBusy)
		if s := f.Stats(); s.Busy != 1 || s.Errors != 0 {
			t.Errorf("%+v, want one that found it busy", s)
		}
	})
}

// If there are too many records to confirm, they are served stale.
func TestCacheBusyStale(t *testing.T) {
	inBubble(t, func(f *fixture) {
		other := storetest.NewKey("key_b")
		if err := f.store.Add(f.Context(), other); err != nil {
			t.Fatal(err)
		}
		f.finds("")
		if _, err := f.Lookup(f.Context(), other.Hash); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		release := make(chan struct{})
		f.store.set(release, false)
		var waiting sync.WaitGroup
		waiting.Go(func() { f.Lookup(f.Context(), other.Hash) })
		synctest.Wait()
		f.finds("")
		f.Invalidate(f.known.Hash)
		f.fails(keystore.ErrBusy)
		close(release)
		waiting.Wait()
	}, func(c *cache.Config) { c.MaxInFlight = 1 })
}

// For any sequence of events, an answer is the store's current record, or the one that it last confirmed, no
// longer ago than allowed.
func TestCacheModel(t *testing.T) {
	for seed := range uint64(50) {
		inBubble(t, func(f *fixture) {
			r := rand.New(rand.NewPCG(seed, 0))
			version, down := 0, false
			var seen string         // what the store last answered; "" for what is known to have changed
			var confirmed time.Time // and when
			suspect := false        // it may have changed since
			failed := false         // a lookup since then
			for step := range 400 {
				switch r.IntN(7) {
				case 0:
					if !down {
						version++
						f.rename(fmt.Sprint(version))
					}
				case 1:
					down = !down
					f.store.Fail(map[bool]error{true: errDown}[down])
				case 2, 3:
					time.Sleep(time.Duration(r.IntN(100)) * time.Second)
				case 4:
					f.Invalidate(f.known.Hash)
					seen = ""
				case 5:
					f.InvalidateAll()
					suspect = true
				default:
					time.Sleep(time.Millisecond)
				}
				k, err := f.Lookup(f.Context(), f.known.Hash)
				synctest.Wait()
				age, current := time.Since(confirmed), "v"
				if version > 0 {
					current = fmt.Sprint(version)
				}
				name := "v"
				if k != nil && k.Name != "" {
					name = k.Name
				}
				switch {
				case err != nil:
					if !down || seen != "" && age < 10*time.Minute {
						t.Fatalf("seed %d, step %d: %v, but down %t, seen %q, age %s", seed, step, err, down, seen, age)
					}
				case seen != "" && !suspect && age < time.Minute, down && seen != "" && age < 10*time.Minute:
					if name != seen {
						t.Fatalf("seed %d, step %d: version %s, want what was last confirmed, %s", seed, step, name, seen)
					}
				case down:
					t.Fatalf("seed %d, step %d: a record that may not answer did: age %s, seen %q", seed, step, age, seen)
				default:
					if name != current {
						t.Fatalf("seed %d, step %d: version %s, want %s", seed, step, name, current)
					}
				}
				// The store was asked if there was nothing fresh, and once in the
				// background in the last fifth of the TTL.
				switch asked := seen == "" || suspect || age >= time.Minute || age >= 48*time.Second && !failed; {
				case asked && down:
					failed = true
				case asked:
					seen, confirmed, suspect, failed = current, time.Now(), false, false
				}
			}
		})
	}
}
