package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// An Address is the address of a listener, in the form that [net.Listen] accepts. The zero value
// means no listener.
type Address struct {
	Network string // tcp or unix
	Address string
}

// maxSocketPath is the longest path in a sockaddr_un, without the NUL at its end (unix(7)).
const maxSocketPath = 107

// ParseAddress parses host:port or unix:/path. The host is an IP address or a name; an empty one
// means every address of the machine. Port 0 means any free port.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return Address{}, errors.New("the path of a unix socket is not absolute: write one such as unix:/run/extauthz/extauthz.sock")
		case len(path) > maxSocketPath:
			return Address{}, fmt.Errorf("the path of a unix socket is %d bytes long: write at most %d", len(path), maxSocketPath)
		}
		return Address{Network: "unix", Address: path}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, "/ ") {
		return Address{}, errors.New("not a listen address: write host:port, such as 127.0.0.1:9191 or [::1]:9191, or unix:/path")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Address{}, errors.New("no port from 0 to 65535: write one such as 127.0.0.1:9191")
	}
	return Address{Network: "tcp", Address: s}, nil
}

// String returns the address in the form that [ParseAddress] parses, or "none".
func (a Address) String() string {
	switch a.Network {
	case "":
		return "none"
	case "unix":
		return "unix:" + a.Address
	}
	return a.Address
}

// Conflicts reports whether a process cannot listen on both a and b: they are the same socket, or
// share a port on the same address, or on one address and all addresses.
func (a Address) Conflicts(b Address) bool {
	if a.Network != b.Network || a.Network != "tcp" {
		return a.Network == b.Network && a.Network != "" && filepath.Clean(a.Address) == filepath.Clean(b.Address)
	}
	hostA, portA, _ := net.SplitHostPort(a.Address)
	hostB, portB, _ := net.SplitHostPort(b.Address)
	return portA == portB && strings.Trim(portA, "0") != "" &&
		(strings.EqualFold(hostA, hostB) || isWildcard(hostA) || isWildcard(hostB) || a.Local() && b.Local() && (isName(hostA) || isName(hostB)))
}

// isName reports whether host is a name such as localhost, which may be any address.
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}

func isWildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// Local reports whether only this machine can reach the address.
func (a Address) Local() bool {
	host, _, err := net.SplitHostPort(a.Address)
	if a.Network != "tcp" || err != nil {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
