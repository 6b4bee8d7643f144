package usage

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"extauthz/authz"
)

// The 16-byte form of a network is the network that [Network] returns.
func TestCompactNetwork(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	addrs := []netip.Addr{{}, netip.MustParseAddr("::"), netip.MustParseAddr("::1"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::fffe:0:1")}
	for range 1000 {
		var b [16]byte
		for i := range b {
			b[i] = byte(rng.IntN(3) * 0x7f)
		}
		addrs = append(addrs, netip.AddrFrom16(b), netip.AddrFrom4([4]byte(b[:4])))
	}
	seen := make(map[network]netip.Prefix)
	for _, a := range addrs {
		n, want := networkOf(a), Network(a)
		if n.prefix() != want {
			t.Fatalf("%s is counted by %s, want %s", a, n.prefix(), want)
		}
		if other, ok := seen[n]; ok && other != want {
			t.Fatalf("%s and %s are one", other, want)
		}
		seen[n] = want
	}
}

// A buffer counts as maps do, with any hashes, also after it was emptied.
func TestBuffer(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, hashes := range []uint32{1, 3, 1 << 31} {
		b := &buffer{}
		for range 3 {
			type at struct {
				id  string
				net netip.Prefix
				day Day
			}
			want, last := map[at]uint64{}, map[string]time.Time{}
			for range 5000 {
				k := rng.IntN(200)
				e := Event{
					KeyID: fmt.Sprintf("key_%d", k), Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(20))}), Code: authz.Valid,
					Time: time.Unix(1_800_000_000+rng.Int64N(3*24*3600), rng.Int64N(1e9)),
				}
				if !b.record(&e, uint32(k*7919)%hashes, 1000, 1_000_000) {
					t.Fatal("no room")
				}
				want[at{e.KeyID, Network(e.Addr), DayOf(e.Time)}]++
				last[e.KeyID] = later(last[e.KeyID], e.Time)
			}
			if len(b.rows) != len(want) || len(b.keys) != len(last) {
				t.Fatalf("%d rows of %d keys, want %d of %d", len(b.rows), len(b.keys), len(want), len(last))
			}
			for i := range b.rows {
				if r := b.export(&b.rows[i]); r.Allowed != want[at{r.KeyID, r.Network, r.Day}] {
					t.Fatalf("%+v, want %d", r, want[at{r.KeyID, r.Network, r.Day}])
				}
			}
			for i := range b.keys {
				if s := b.keys[i].summary(); !s.LastUsed.Equal(last[s.KeyID]) || !s.LastCurrent.Equal(s.LastUsed) || !s.LastPrevious.IsZero() {
					t.Fatalf("%+v, want %s", s, last[s.KeyID])
				}
			}
			b.reset()
		}
	}
}
