package cache

import (
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"extauthz/keystore"
)

// FuzzLRU: whatever is done with it, it holds what another one does.
func FuzzLRU(f *testing.F) {
	f.Add(uint8(3), []byte("a1b2c3d4A5a6b7"))
	f.Add(uint8(1), []byte("\x00\x41\x82\xc3"))
	f.Fuzz(func(t *testing.T, size uint8, steps []byte) {
		n := int(size)%8 + 1
		got := newLRU(n)
		want, err := simplelru.NewLRU[keystore.Hash, time.Duration](n, nil)
		if err != nil {
			t.Fatal(err)
		}
		same := func(what string, r *record, v time.Duration, ok bool) {
			t.Helper()
			if (r != nil) != ok || ok && r.confirmed != v {
				t.Fatalf("%s: got %v, want %v, %t", what, r, v, ok)
			}
		}
		for i, step := range steps {
			h := keystore.Hash{step & 15}
			switch step >> 6 {
			case 0:
				got.add(h, record{confirmed: time.Duration(i)})
				want.Add(h, time.Duration(i))
			case 1:
				v, ok := want.Get(h)
				same("get", got.get(h), v, ok)
			case 2:
				v, ok := want.Peek(h)
				same("peek", got.peek(h), v, ok)
			default:
				got.remove(h)
				want.Remove(h)
			}
			if got.len() != want.Len() || len(got.slots) > n+1 {
				t.Fatalf("%d records in %d slots, want %d of %d", got.len(), len(got.slots), want.Len(), n)
			}
		}
		for i := got.slots[0].before; i != 0; i = got.slots[i].before { // the oldest first
			h, v, ok := want.RemoveOldest()
			same("oldest", &got.slots[i].record, v, ok && h == got.slots[i].hash)
		}
		if want.Len() != 0 {
			t.Errorf("%d records were lost", want.Len())
		}
	})
}
