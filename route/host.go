package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// NormalizeHost returns the normal form of a Host or :authority header, in which hosts are
// compared: lower case (RFC 4343), without the port, the trailing dot and the brackets of an
// IPv6 address. An empty host stays empty. A host with a character that no host name has, such as
// those of user information, is [ErrAmbiguous]. NormalizeHost allocates only for upper case.
func NormalizeHost(host string) (string, error) {
	if strings.HasPrefix(host, "[") {
		addr, rest, ok := strings.Cut(host[1:], "]")
		if ip, err := netip.ParseAddr(addr); err == nil && ip.Is6() && ip.Zone() == "" && ok && (rest == "" || isPort(rest)) {
			return ip.String(), nil
		}
		return "", ambiguous("a host in brackets that is not an IPv6 address")
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return "", ambiguous("a host with more than a port after its colon")
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		if !isHostByte(host[i]) {
			return "", ambiguous("a host with a character that no host name has")
		}
	}
	return strings.ToLower(host), nil
}

func isPort(s string) bool { return s[0] == ':' && strings.Trim(s[1:], "0123456789") == "" }

func isHostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// parseHost parses a rule's host: a name, an IP address, or *. and a name.
func parseHost(s string) (string, error) {
	name, wildcard := strings.CutPrefix(s, "*.")
	switch {
	case s == "":
		return "", errors.New("an empty host: write one such as api.example.com, or omit hosts for every host")
	case s == "*":
		return "", errors.New("* would match every host: omit hosts instead")
	case strings.Contains(name, "*"):
		return "", fmt.Errorf("%q has a * that is not a whole label at the start: write *.example.com", s)
	case strings.Contains(s, "/"):
		return "", fmt.Errorf("%q is not just a host: write it without a scheme and a path, such as api.example.com", s)
	}
	if ip, err := netip.ParseAddr(name); err == nil && !wildcard && ip.Zone() == "" {
		return ip.String(), nil
	}
	host, err := NormalizeHost(name)
	if err != nil || host == "" {
		return "", fmt.Errorf("%q is not a host: write a name or an IP address, such as api.example.com", s)
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && isPort(name[i:]) {
		return "", fmt.Errorf("%q has a port, which is ignored in requests: write %q", s, s[:len(s)-len(name)+i])
	}
	if wildcard {
		return "*." + host, nil
	}
	return host, nil
}
