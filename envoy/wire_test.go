package envoy

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// readAlike checks that this package reads b, in one buffer and in several, as the generated code reads b
// without unused fields and cleaned, and as the generated code reads b itself if it accepts it.
func readAlike(t *testing.T, b []byte) {
	t.Helper()
	got, err := readCut(b, len(b))
	for _, size := range []int{1, 7, 64} {
		if cut, cutErr := readCut(b, size); (cutErr == nil) != (err == nil) || err == nil && !reflect.DeepEqual(cut, got) {
			t.Fatalf("%.200x:\nin buffers of %d: %v, %.2000q\nin one: %v, %.2000q", b, size, cutErr, fmt.Sprint(cut), err, fmt.Sprint(got))
		}
	}
	used, wantErr := onlyUsed(b, usedFields)
	if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, ErrMalformed) {
		t.Fatalf("%.200x:\ngot the error %v, want %v", b, err, wantErr)
	}
	same := func(what string, b []byte) bool {
		req := new(authv3.CheckRequest)
		if proto.Unmarshal(b, req) != nil {
			return false
		}
		var read attributes
		read.read(req)
		if want := read.canonical(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.200x:\ngot  %v, %.2000q\nwant %.2000q, as the generated code reads %s", b, err, fmt.Sprint(got), fmt.Sprint(want), what)
		}
		return true
	}
	same("all of it", b)
	if wantErr == nil && !same("what is used of it", used) {
		t.Errorf("%.200x: the generated code does not accept what is used of it, %x", b, used)
	}
}

// readCut reads b from buffers of this size.
func readCut(b []byte, size int) (attributes, error) {
	var data mem.BufferSlice
	for part := range slices.Chunk(b, max(size, 1)) {
		data = append(data, mem.SliceBuffer(part))
	}
	var a attributes
	err := new(checkReader).read(data, &a)
	return a.canonical(), err
}

// full is a request with every field that Envoy 1.40 sends.
func full(a *authv3.CheckRequest) []byte {
	c := a.Attributes
	c.Destination = &authv3.AttributeContext_Peer{Address: c.Source.Address, Principal: "spiffe://a/b"}
	c.Source.Certificate, c.Source.Service = "-----BEGIN", "web"
	c.Request.Time = &timestamppb.Timestamp{Seconds: 1, Nanos: 2}
	c.Request.Http.Size, c.Request.Http.Body, c.Request.Http.RawBody = -1, "é", []byte{0xff}
	c.ContextExtensions = map[string]string{"permissions": "a", "": "b"}
	c.MetadataContext, c.RouteMetadataContext = new(corev3.Metadata), new(corev3.Metadata)
	b, err := proto.Marshal(a)
	if err != nil {
		panic(err)
	}
	return b
}

func TestWireReadsWhatEnvoySends(t *testing.T) {
	for _, a := range []ask{typical("alpha"), send("a", "", "b", "\xff", "A", "x").from(""), send().from("2001:db8::1").to("")} {
		for _, req := range a.encodings {
			readAlike(t, full(req))
		}
	}
}

// TestWireMutations reads every request that differs from a valid one in one byte, or is truncated.
func TestWireMutations(t *testing.T) {
	for _, req := range send("x-api-key", "alpha", "é", "b").encodings {
		good := full(req)
		for i := range good {
			readAlike(t, good[:i])
			for _, change := range []byte{1, 2, 3, 7, 8, 0x10, 0x40, 0x80, 0xff} {
				bad := append([]byte(nil), good...)
				bad[i] ^= change
				readAlike(t, bad)
			}
		}
	}
}

// TestWireEdgeCases are the rules of the encoding that are easy to get wrong.
func TestWireEdgeCases(t *testing.T) {
	msg := func(number protowire.Number, parts ...[]byte) []byte {
		var inner []byte
		for _, p := range parts {
			inner = append(inner, p...)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
	}
	text := func(number protowire.Number, s string) []byte { return msg(number, []byte(s)) }
	http := func(parts ...[]byte) []byte { return msg(1, msg(4, msg(2, parts...))) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	socket := msg(1, text(2, "192.0.2.1"))
	var many [][]byte
	for i := range 1000 {
		many = append(many, msg(3, text(1, fmt.Sprintf("x-%d", i)), text(2, "v")))
	}
	for name, b := range map[string][]byte{
		"same key twice in a map":           http(msg(3, text(1, "a"), text(2, "1")), msg(3, text(1, "a"), text(2, "2"))),
		"same extension twice":              msg(1, msg(10, text(1, "a"), text(2, "1")), msg(10, text(1, "a"), text(2, "2"))),
		"entry with two keys":               http(msg(3, text(1, "a"), text(1, "b"), text(2, "1"), text(2, "2"))),
		"entry without a key":               http(msg(3, text(2, "1"))),
		"entry without anything":            http(msg(3)),
		"entry with an unknown field":       http(msg(3, text(1, "a"), text(9, "x"), text(2, "1"))),
		"entry with a key of a wrong type":  http(msg(3, []byte{1 << 3, 1}, text(2, "1"))),
		"names that differ in case":         http(msg(3, text(1, "b"), text(2, "1")), msg(3, text(1, "B"), text(2, "2"))),
		"header_map before headers":         http(msg(13, msg(1, text(1, "a"), text(3, "raw"))), msg(3, text(1, "a"), text(2, "mapped"))),
		"two header_maps":                   http(msg(13, msg(1, text(1, "a"))), msg(13, msg(1, text(1, "b")))),
		"raw_value empty beside value":      http(msg(13, msg(1, text(1, "a"), text(2, "v"), text(3, "")))),
		"raw_value, then an empty one":      http(msg(13, msg(1, text(1, "a"), text(3, "raw"), text(3, "")))),
		"more headers than any request has": http(many...),
		"path twice":                        http(text(4, "/a"), text(4, "/b")),
		"path not UTF-8":                    http(text(4, "/\xff")),
		"path not UTF-8, then another":      http(text(4, "/\xff"), text(4, "/b")),
		"body not UTF-8":                    http(text(11, "\xff")),
		"key not UTF-8":                     http(msg(3, text(1, "\xff"))),
		"certificate not UTF-8":             msg(1, msg(1, text(5, "\xff"))),
		"destination not UTF-8":             msg(1, msg(2, text(2, "\xff"))),
		"pipe not UTF-8":                    msg(1, msg(1, msg(1, msg(2, text(1, "\xff"))))),
		"path of a wrong type":              http([]byte{4 << 3, 1}),
		"size of a wrong type":              http(text(9, "x")),
		"attributes twice":                  join(msg(1, msg(1, msg(1, socket))), msg(1, msg(4, msg(2, text(4, "/"))))),
		"source twice":                      msg(1, msg(1, msg(1, socket)), msg(1, text(2, "web"))),
		"pipe after socket":                 msg(1, msg(1, msg(1, socket, msg(2, text(1, "/p"))))),
		"socket after pipe":                 msg(1, msg(1, msg(1, msg(2, text(1, "/p")), socket))),
		"socket twice":                      msg(1, msg(1, msg(1, socket, msg(1, text(2, "192.0.2.2"))))),
		"internal after socket":             msg(1, msg(1, msg(1, socket, msg(3, text(1, "x"))))),
		"two addresses of a source":         msg(1, msg(1, msg(1, socket), msg(1, msg(2)))),
		"port named, then numbered":         msg(1, msg(1, msg(1, msg(1, text(2, "192.0.2.1"), text(4, "http"), []byte{3 << 3, 80})))),
		"labels":                            msg(1, msg(1, msg(3, text(1, "a"), text(2, "b")), msg(1, socket))),
		"metadata":                          msg(1, msg(11, msg(1, text(1, "envoy.lb")))),
		"metadata not UTF-8":                msg(1, msg(11, msg(1, text(1, "\xff")))),
		"TLS session":                       msg(1, msg(12, text(1, "a.example"))),
		"unknown field":                     join(text(99, "x"), http(text(4, "/a"))),
		"fixed32":                           {1<<3 | 5, 0, 0, 0, 0},
		"fixed64":                           {9<<3 | 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"group":                             {9<<3 | 3, 9<<3 | 4},
		"group without an end":              {9<<3 | 3},
		"end without a group":               {9<<3 | 4},
		"field 0":                           {0<<3 | 2, 0},
		"tag written long":                  {0x8a, 0x80, 0x00, 0},
		"length written long":               {1<<3 | 2, 0x80, 0x00},
		"length past the end":               {1<<3 | 2, 5},
		"length past everything":            {1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"nothing":                           {},
	} {
		t.Run(name, func(t *testing.T) { readAlike(t, b) })
	}
}
