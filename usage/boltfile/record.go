package boltfile

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"time"

	"extauthz/usage"
)

// A row's key is the id of the API key, a zero byte, the network as 16 bytes of address and one
// of length, IPv4 as IPv4-mapped, and the day in 4 bytes. Its value is a list of varints: the
// counts, then the times in nanoseconds.

// keyPrefix is what the keys of an API key's rows begin with.
func keyPrefix(id string) []byte { return append([]byte(id), 0) }

// networkPrefix is what the keys of its rows from one network begin with.
func networkPrefix(id string, network netip.Prefix) []byte {
	a := network.Addr().As16()
	b := append(keyPrefix(id), a[:]...)
	bits := network.Bits()
	if network.Addr().Is4() {
		bits += 96
	}
	return append(b, byte(bits)) //nolint:gosec // 0 to 128
}

const suffixLen = 1 + 16 + 1 + 4

func rowKey(r *usage.Row) []byte {
	return binary.BigEndian.AppendUint32(networkPrefix(r.KeyID, r.Network), uint32(r.Day)+math.MaxInt32+1) //nolint:gosec // keeps the order
}

func encodeRow(r *usage.Row) []byte {
	b := binary.AppendUvarint(nil, r.Allowed)
	b = binary.AppendUvarint(b, r.WouldRefuse)
	for _, n := range r.Refused {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, r.First.UnixNano())
	return binary.AppendVarint(b, r.Last.UnixNano())
}

var errBadRecord = errors.New("a record cannot be read: the file is damaged, or a newer version wrote it; remove the file to start again")

func decodeRow(k, v []byte) (usage.Row, error) {
	n := len(k) - suffixLen
	if n < 1 || k[n] != 0 {
		return usage.Row{}, errBadRecord
	}
	var r usage.Row
	r.KeyID = string(k[:n])
	address := netip.AddrFrom16([16]byte(k[n+1 : n+17]))
	bits := int(k[n+17])
	if address.Is4In6() {
		address, bits = address.Unmap(), bits-96
	}
	r.Network = netip.PrefixFrom(address, bits)
	r.Day = usage.Day(int32(binary.BigEndian.Uint32(k[n+18:]) - math.MaxInt32 - 1)) //nolint:gosec // as rowKey wrote it
	d := decoder{rest: v}
	r.Allowed, r.WouldRefuse = d.uint(), d.uint()
	for i := range r.Refused {
		r.Refused[i] = d.uint()
	}
	r.First, r.Last = d.time(), d.time()
	if d.bad || !r.Network.IsValid() {
		return usage.Row{}, errBadRecord
	}
	return r, nil
}

// A storedSummary is a summary with the number of stored networks of the key.
type storedSummary struct {
	usage.Summary
	networks uint64
}

func encodeSummary(s *storedSummary) []byte {
	b := binary.AppendUvarint(nil, s.networks)
	for _, t := range []time.Time{s.LastUsed, s.LastCurrent, s.LastPrevious, s.Dropped} {
		var nanos int64
		if !t.IsZero() {
			nanos = t.UnixNano()
		}
		b = binary.AppendVarint(b, nanos)
	}
	if s.LastNetwork.IsValid() {
		b = append(b, s.LastNetwork.String()...)
	}
	return b
}

func decodeSummary(k, v []byte) (storedSummary, error) {
	s := storedSummary{Summary: usage.Summary{KeyID: string(k)}}
	d := decoder{rest: v}
	s.networks = d.uint()
	s.LastUsed, s.LastCurrent, s.LastPrevious, s.Dropped = d.time(), d.time(), d.time(), d.time()
	if d.bad {
		return s, errBadRecord
	}
	if text := string(d.rest); text != "" {
		var err error
		if s.LastNetwork, err = netip.ParsePrefix(strings.TrimSpace(text)); err != nil {
			return s, errBadRecord
		}
	}
	return s, nil
}

// A decoder reads varints one after the other. A value that cannot be read makes it bad.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	d.advance(n)
	return v
}

// time returns the zero Time for 0.
func (d *decoder) time() time.Time {
	v, n := binary.Varint(d.rest)
	d.advance(n)
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

func (d *decoder) advance(n int) {
	if n <= 0 {
		d.bad, n = true, 0
	}
	d.rest = d.rest[n:]
}
