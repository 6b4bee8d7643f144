package envoy

import (
	"unsafe"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// readBytes fills a, which is empty, from an encoded CheckRequest. It reads what Envoy sends
// straight from the wire. Whatever is out of the ordinary there, be it malformed, unknown or
// only repeated, is left to the generated code, which then says what it means.
//
// The strings are parts of one copy of b, which lives as long as any of them.
func (a *attributes) readBytes(b []byte) error {
	text := string(b)
	if a.readRequest(unsafe.Slice(unsafe.StringData(text), len(text))) { //nolint:gosec // only read, as a string must be
		return nil
	}
	a.Reset()
	req := new(authv3.CheckRequest)
	if err := proto.Unmarshal(b, req); err != nil {
		return err
	}
	a.read(req)
	return nil
}

// readRequest reads a CheckRequest. Like all that read below, it reports whether it
// understood all of it.
func (a *attributes) readRequest(b []byte) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		m.check(tag == 1<<3|length && a.readContext(m.once(1)))
	}
	return !m.odd
}

func (a *attributes) readContext(b []byte) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length: // source
			m.check(readPeer(m.once(1), &a.Peer))
		case 2<<3 | length: // destination
			var unused string
			m.check(readPeer(m.once(2), &unused))
		case 4<<3 | length: // request
			m.check(a.readHTTPAttributes(m.once(4)))
		case 10<<3 | length: // context_extensions
			f, ok := readEntry(m.bytes)
			m.check(ok && addUnique(&a.Extensions, f, nil))
		case 11<<3 | length, 13<<3 | length: // metadata_context, route_metadata_context
			m.check(len(m.bytes) == 0)
		default:
			m.odd = true
		}
	}
	return !m.odd
}

func readPeer(b []byte, address *string) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length: // address
			m.check(readAddress(m.once(1), address))
		case 2<<3 | length, 4<<3 | length, 5<<3 | length: // service, principal, certificate
			m.text()
		default:
			m.odd = true
		}
	}
	return !m.odd
}

// readAddress reads an Address: one of a socket's and a pipe's.
func readAddress(b []byte, address *string) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		kept := address
		switch tag {
		case 1<<3 | length: // socket_address
		case 2<<3 | length: // pipe
			kept = nil
		default:
			m.odd = true
		}
		m.check(readEndpoint(m.once(1), kept))
	}
	return !m.odd
}

// readEndpoint reads a SocketAddress, or, where address is nil, a Pipe.
func readEndpoint(b []byte, address *string) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		switch {
		case address == nil:
			m.check(tag == 1<<3|length || tag == 2<<3|varint) // path, mode
			m.text()
		case tag == 2<<3|length: // address
			*address = m.text()
		case tag == 1<<3|varint, tag == 3<<3|varint: // protocol, port_value
		default:
			m.odd = true
		}
	}
	return !m.odd
}

func (a *attributes) readHTTPAttributes(b []byte) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length: // time
			m.check(readTime(m.once(1)))
		case 2<<3 | length: // http
			m.check(a.readHTTP(m.once(2)))
		default:
			m.odd = true
		}
	}
	return !m.odd
}

func readTime(b []byte) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		m.check(tag == 1<<3|varint || tag == 2<<3|varint)
	}
	return !m.odd
}

func (a *attributes) readHTTP(b []byte) bool {
	m := message{rest: b}
	var names nameSet
	var raw []byte
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length, 7<<3 | length, 8<<3 | length, 10<<3 | length, 11<<3 | length: // id, query, fragment, protocol, body
			m.text()
		case 2<<3 | length:
			a.Method = m.text()
		case 3<<3 | length: // headers
			f, ok := readEntry(m.bytes)
			m.check(ok && addUnique(&a.Headers, f, &names))
		case 4<<3 | length:
			a.Path = m.text()
		case 5<<3 | length:
			a.Host = m.text()
		case 6<<3 | length:
			a.Scheme = m.text()
		case 9<<3 | varint, 12<<3 | length: // size, raw_body
		case 13<<3 | length: // header_map, which comes after headers
			raw = m.once(13)
		default:
			m.odd = true
		}
	}
	if m.odd {
		return false
	}
	a.orderHeaders()
	return a.readHeaderMap(raw)
}

func (a *attributes) readHeaderMap(b []byte) bool {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		f, ok := readHeaderValue(m.bytes)
		m.check(ok && tag == 1<<3|length)
		a.Headers = append(a.Headers, f)
	}
	return !m.odd
}

func readHeaderValue(b []byte) (f field, ok bool) {
	m := message{rest: b}
	raw := ""
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length:
			f.Name = m.text()
		case 2<<3 | length:
			f.Value = m.text()
		case 3<<3 | length:
			raw = m.raw()
		default:
			m.odd = true
		}
	}
	if raw != "" {
		f.Value = sanitizeUTF8(raw)
	}
	return f, !m.odd
}

// readEntry reads an entry of a map from strings to strings.
func readEntry(b []byte) (f field, ok bool) {
	m := message{rest: b}
	for tag := m.next(); tag != 0; tag = m.next() {
		switch tag {
		case 1<<3 | length:
			f.Name = m.text()
		case 2<<3 | length:
			f.Value = m.text()
		default:
			m.odd = true
		}
	}
	return f, !m.odd
}
