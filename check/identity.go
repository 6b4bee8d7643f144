package check

import (
	"strings"
	"unicode/utf8"
)

// The headers that identify the caller to the upstream.
const (
	identityPrefix   = "x-extauthz-"
	keyIDHeader      = "x-extauthz-key-id"
	clientAddrHeader = "x-extauthz-client-address"
	externalIDHeader = "x-extauthz-external-id"
)

// describe sets the fields of o that describe the caller.
func (o *Outcome) describe() {
	o.requestID = o.seen.RequestID
	if o.seen.ClientAddr.IsValid() {
		o.ClientAddr = o.seen.ClientAddr.String()
	}
	o.WouldRefuse = o.seen.Decision.WouldRefuse
	if k := o.seen.Decision.Key; k != nil {
		o.KeyID, o.ExternalID = validUTF8(k.ID), validUTF8(k.ExternalID)
	}
}

// validUTF8 replaces bytes that are not UTF-8, so that the outcome can be sent even if a store
// contains them.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "!")
}

// identify sets the identity headers, and removes those that the caller forged.
func (o *Outcome) identify(a *Attributes) {
	addr := o.ClientAddr
	if o.KeyID == "" {
		addr = "" // a dry run, and the caller is unknown
	}
	o.setIdentity(keyIDHeader, o.KeyID)
	o.setIdentity(clientAddrHeader, addr)
	o.setIdentity(externalIDHeader, o.ExternalID)
	for i := range a.Headers {
		if name := a.Headers[i].Name; isIdentity(name) && !isOwnHeader(name) {
			o.RemoveHeaders = append(o.RemoveHeaders, name)
		}
	}
}

// setIdentity sets one identity header, or removes it if it has no value, even if the request
// does not show it: the proxy may hide it.
func (o *Outcome) setIdentity(name, value string) {
	if value == "" {
		o.RemoveHeaders = append(o.RemoveHeaders, name)
		return
	}
	o.SetHeaders = append(o.SetHeaders, Field{name, value})
}

// isIdentity reports whether a header's name begins with x-extauthz-. It treats "_" as "-", as
// many upstreams do.
func isIdentity(name string) bool {
	if len(name) < len(identityPrefix) {
		return false
	}
	for i := range len(identityPrefix) {
		c := lower(name[i])
		if c == '_' {
			c = '-'
		}
		if c != identityPrefix[i] {
			return false
		}
	}
	return true
}

func isOwnHeader(name string) bool {
	return equalFold(name, keyIDHeader) || equalFold(name, clientAddrHeader) || equalFold(name, externalIDHeader)
}
