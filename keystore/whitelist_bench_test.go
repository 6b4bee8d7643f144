package keystore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"

	"extauthz/keystore"
)

// randomRanges returns n ranges of one family, /16 to /32 or /32 to /128, none of which contains an address
// that begins with a zero byte.
func randomRanges(n int, v6 bool) []netip.Prefix {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	ranges := make([]netip.Prefix, n)
	for i := range ranges {
		if v6 {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], r.Uint64()|1<<61)
			binary.BigEndian.PutUint64(b[8:], r.Uint64())
			ranges[i] = netip.PrefixFrom(netip.AddrFrom16(b), 32+r.IntN(97)).Masked()
			continue
		}
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32()|1<<29)
		ranges[i] = netip.PrefixFrom(netip.AddrFrom4(b), 16+r.IntN(17)).Masked()
	}
	return ranges
}

// BenchmarkWhitelist compares a scan with the kinds of table: tableFrom is where they are equally fast. A hit
// of the scan is in the middle of the list.
func BenchmarkWhitelist(b *testing.B) {
	scan := func(ranges []netip.Prefix) func(netip.Addr) bool {
		return func(a netip.Addr) bool {
			for _, p := range ranges {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
	}
	kinds := []struct {
		name  string
		build func([]netip.Prefix) func(netip.Addr) bool
	}{
		{"scan", scan},
		{"lite", func(ranges []netip.Prefix) func(netip.Addr) bool {
			t := new(bart.Lite)
			for _, p := range ranges {
				t.Insert(p)
			}
			return t.Contains
		}},
		{"table", func(ranges []netip.Prefix) func(netip.Addr) bool {
			t := new(bart.Table[struct{}])
			for _, p := range ranges {
				t.Insert(p, struct{}{})
			}
			return t.Contains
		}},
		{"fast", func(ranges []netip.Prefix) func(netip.Addr) bool {
			t := new(bart.Fast[struct{}])
			for _, p := range ranges {
				t.Insert(p, struct{}{})
			}
			return t.Contains
		}},
		{"whitelist", func(ranges []netip.Prefix) func(netip.Addr) bool {
			return keystore.NewWhitelist(ranges).Contains
		}},
	}
	for _, n := range []int{1, 2, 3, 4, 8, 16, 32, 64, 50_000} {
		for _, v6 := range []bool{false, true} {
			ranges := randomRanges(n, v6)
			family, miss := "v4", netip.MustParseAddr("0.1.2.3")
			if v6 {
				family, miss = "v6", netip.MustParseAddr("::1:2")
			}
			for _, addr := range []struct {
				name string
				addr netip.Addr
			}{{"hit", ranges[n/2].Addr()}, {"miss", miss}} {
				for _, k := range kinds {
					contains := k.build(ranges)
					if contains(addr.addr) != (addr.name == "hit") {
						b.Fatalf("%s answers wrongly", k.name)
					}
					b.Run(fmt.Sprintf("ranges=%d/%s/%s/%s", n, family, addr.name, k.name), func(b *testing.B) {
						b.ReportAllocs()
						for b.Loop() {
							contains(addr.addr)
						}
					})
				}
			}
		}
	}
}
