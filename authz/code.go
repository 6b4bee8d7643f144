package authz

// A Code is the outcome of a decision. Its zero value is [Unavailable], which refuses.
type Code uint8

// The codes, in the order of the checks that give them.
const (
	Unavailable             Code = iota // no decision could be made
	MissingKey                          // the request carries no secret
	NotFound                            // no key has this secret
	Disabled                            // the key is disabled
	Expired                             // the key has expired
	Forbidden                           // the client address is not in the key's whitelist
	InsufficientPermissions             // the key lacks a permission that the route requires
	RateLimited                         // a rate limit of the key is exhausted
	Valid                               // every check passed: the only code that allows
)

var codeNames = [...]string{
	Unavailable:             "UNAVAILABLE",
	MissingKey:              "MISSING_KEY",
	NotFound:                "NOT_FOUND",
	Disabled:                "DISABLED",
	Expired:                 "EXPIRED",
	Forbidden:               "FORBIDDEN",
	InsufficientPermissions: "INSUFFICIENT_PERMISSIONS",
	RateLimited:             "RATE_LIMITED",
	Valid:                   "VALID",
}

// Codes returns every code, in order.
func Codes() []Code {
	codes := make([]Code, len(codeNames))
	for i := range codes {
		codes[i] = Code(i)
	}
	return codes
}

// String returns the code as callers see it, such as FORBIDDEN.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return codeNames[Unavailable]
}

// Allowed reports whether the request is allowed: whether the code is [Valid].
func (c Code) Allowed() bool { return c == Valid }
