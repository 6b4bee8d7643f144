package envoy

import (
	"google.golang.org/grpc/mem"

	"extauthz/check"
)

// A checkReader decodes check requests into attributes by the rules of protobuf: repeated messages
// are merged, the last value of a scalar field or a map key wins, and unknown fields are skipped.
// It only looks at fields that a decision uses, so the content of any other, such as a server
// name that is not UTF-8, makes no difference.
//
// The field numbers are those of envoy/service/auth/v3/attribute_context.proto and its imports.
// The generated code is the reference: see [attributes.read].
type checkReader struct {
	decoder
	to         *attributes
	headers    nameIndex
	extensions nameIndex
	listed     []field // the headers of header_map, which follow those of headers
	rawPath    string  // the :path header as the caller sent it; empty if Envoy does not report it
}

// read fills to, which is empty, from an encoded CheckRequest. It keeps no reference to data. If
// it returns an error, to is undefined.
func (r *checkReader) read(data mem.BufferSlice, to *attributes) error {
	r.decoder, r.to = decoder{rest: data}, to
	r.readRequest(data.Len())
	to.setPathCleaned(r.rawPath)
	to.orderHeaders()
	if len(to.Headers) == 0 {
		to.Headers, r.listed = r.listed, to.Headers
	} else {
		to.Headers = append(to.Headers, r.listed...)
	}
	err := r.err
	*r = checkReader{listed: check.Emptied(r.listed)}
	return err
}

// readRequest reads a CheckRequest of n bytes; the methods below read the messages in it.
func (r *checkReader) readRequest(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1: // attributes
			r.readContext(n)
		default:
			r.skip(n)
		}
	}
}

func (r *checkReader) readContext(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1: // source
			r.readPeer(n)
		case 4: // request
			r.readHTTPAttributes(n)
		case 10: // context_extensions
			r.to.Extensions = r.extensions.put(r.to.Extensions, r.readEntry(n))
		default:
			r.skip(n)
		}
	}
}

func (r *checkReader) readPeer(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1: // address
			r.readAddress(n)
		default:
			r.skip(n)
		}
	}
}

// readAddress reads an Address, a oneof: a pipe or an internal listener replaces a socket address
// before it.
func (r *checkReader) readAddress(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1: // socket_address
			r.readSocketAddress(n)
		case 2, 3: // pipe, envoy_internal_address
			r.to.Peer = ""
			r.skip(n)
		default:
			r.skip(n)
		}
	}
}

func (r *checkReader) readSocketAddress(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 2:
			r.to.Peer = r.text(n)
		default:
			r.skip(n)
		}
	}
}

func (r *checkReader) readHTTPAttributes(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 2: // http
			r.readHTTP(n)
		default:
			r.skip(n)
		}
	}
}

func (r *checkReader) readHTTP(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1:
			r.to.ID = requestID(r.text(n))
		case 2:
			r.to.Method = r.text(n)
		case 3: // headers
			r.to.Headers = r.headers.put(r.to.Headers, r.readEntry(n))
		case 4:
			r.to.Path = r.text(n)
		case 5:
			r.to.Host = r.text(n)
		case 6:
			r.to.Scheme = r.text(n)
		case 13: // header_map
			r.readHeaderMap(n)
		default: // including the body
			r.skip(n)
		}
	}
}

func (r *checkReader) readHeaderMap(n int) {
	for field, n := range r.fields(n) {
		switch field {
		case 1: // headers
			r.listed = append(r.listed, r.readHeaderValue(n))
		default:
			r.skip(n)
		}
	}
}

// readHeaderValue reads a HeaderValue, whose raw_value, unless empty, overrides value.
func (r *checkReader) readHeaderValue(n int) (f field) {
	raw := ""
	for field, n := range r.fields(n) {
		switch field {
		case 1:
			f.Name = r.text(n)
		case 2:
			f.Value = r.text(n)
		case 3:
			raw = r.raw(n)
		default:
			r.skip(n)
		}
	}
	if raw != "" {
		f.Value = check.CleanUTF8(raw)
		if f.Name == pathHeader {
			r.rawPath = raw
		}
	}
	return f
}

// readEntry reads an entry of a map from strings to strings.
func (r *checkReader) readEntry(n int) (f field) {
	for field, n := range r.fields(n) {
		switch field {
		case 1:
			f.Name = r.text(n)
		case 2:
			f.Value = r.text(n)
		default:
			r.skip(n)
		}
	}
	return f
}

// manyNames is the length from which a list is indexed by a map.
const manyNames = 128

// A nameIndex finds fields by name in a list, which must only grow through put.
type nameIndex struct {
	seen [4]uint64      // a Bloom filter, which most new names pass
	all  map[string]int // the index of each name, for long lists
}

// put appends f to the list, or replaces the value of the field with its name.
func (x *nameIndex) put(list []field, f field) []field {
	if x.maySee(f.Name) {
		if i := x.find(list, f.Name); i >= 0 {
			list[i].Value = f.Value
			return list
		}
	}
	if x.all != nil {
		x.all[f.Name] = len(list)
	}
	return append(list, f)
}

func (x *nameIndex) find(list []field, name string) int {
	if len(list) <= manyNames {
		for i := range list {
			if list[i].Name == name {
				return i
			}
		}
		return -1
	}
	if x.all == nil {
		x.all = make(map[string]int, 2*len(list))
		for i := range list {
			x.all[list[i].Name] = i
		}
	}
	if i, ok := x.all[name]; ok {
		return i
	}
	return -1
}

// maySee adds the name to the filter, and reports whether it may have been there.
func (x *nameIndex) maySee(name string) bool {
	h := byte(len(name)) //nolint:gosec // any byte will do
	if name != "" {
		h = h*31 + name[0]*7 + name[len(name)-1]*17 + name[len(name)/2]
	}
	bit := uint64(1) << (h & 63)
	was := x.seen[h>>6]&bit != 0
	x.seen[h>>6] |= bit
	return was
}
