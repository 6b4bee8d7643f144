package cache

import (
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"extauthz/keystore"
)

// FuzzLRU compares an lru with another implementation.
func FuzzLRU(f *testing.F) {
	f.Add(uint8(3), []byte("a1b2c3d4A5a6b7"))
	f.Add(uint8(1), []byte("\x00\x41\x82\xc3"))
	f.Add(uint8(3), []byte("\x00\x01\x02\xe0\xf0\x03\x41\xf0\xf0\xf0\x04\xc4"))
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
				got.get(h) // add does not change the order of existing records
				got.add(h, record{confirmed: time.Duration(i)})
				want.Add(h, time.Duration(i))
			case 1:
				v, ok := want.Get(h)
				same("get", got.get(h), v, ok)
			case 2:
				v, ok := want.Peek(h)
				same("peek", got.peek(h), v, ok)
			default:
				switch {
				case step&0x3c == 0x2c:
					m := int(step)&3 + 1
					n = max(n, m) // slots stay
					got.resize(m)
					want.Resize(m)
				case step&0x30 == 0x30: // the cursor makes no difference to the others
					got.next()
				case step&0x20 != 0:
					got.rewind()
				default:
					got.remove(h)
					want.Remove(h)
				}
			}
			if got.len() != want.Len() || len(got.slots) > n+2 {
				t.Fatalf("%d records in %d slots, want %d of %d", got.len(), len(got.slots), want.Len(), n)
			}
		}
		hashes := want.Keys() // the oldest first
		got.rewind()
		for h, r := got.next(); r != nil; h, r = got.next() {
			if last := len(hashes) - 1; last < 0 || hashes[last] != h {
				t.Fatalf("next is %v, want the last of %v", h, hashes)
			}
			hashes = hashes[:len(hashes)-1]
		}
		for i := got.slots[anchor].before; i != anchor; i = got.slots[i].before {
			h, v, ok := want.RemoveOldest()
			same("oldest", &got.slots[i].record, v, ok && h == got.slots[i].hash)
		}
		if want.Len()+len(hashes) != 0 {
			t.Errorf("%d records were lost, and next did not return %d", want.Len(), len(hashes))
		}
	})
}
