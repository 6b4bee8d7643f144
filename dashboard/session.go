package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

// A Role is what a user may do. The zero value may do nothing.
type Role uint8

// The roles, each of which may do what those before it may.
const (
	Nobody Role = iota
	Viewer      // look at keys
	Editor      // change them
)

const (
	sessionDuration = 12 * time.Hour
	maxSessions     = 10_000
)

// A session is a user who has logged in. It ends with the process.
type session struct {
	user    string
	role    Role
	expires time.Time
}

// sessions are the sessions by the SHA-256 of their cookie. It is safe for concurrent use.
type sessions struct {
	now    func() time.Time
	secure bool // browsers reach the dashboard by https alone

	mu sync.Mutex
	m  map[[sha256.Size]byte]*session
}

// start begins a session and returns its cookie.
func (s *sessions) start(user string, role Role) *http.Cookie {
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for key, old := range s.m {
		if !now.Before(old.expires) || len(s.m) >= maxSessions {
			delete(s.m, key)
		}
	}
	if s.m == nil {
		s.m = make(map[[sha256.Size]byte]*session)
	}
	s.m[sha256.Sum256([]byte(id))] = &session{user: user, role: role, expires: now.Add(sessionDuration)}
	return sessionCookie(id, int(sessionDuration.Seconds()), s.secure)
}

// cookieName returns the name of the session's cookie. Under https its prefix makes browsers refuse one
// that another host of the domain, or a page reached by http, has set.
func cookieName(secure bool) string {
	if secure {
		return "__Host-extauthz_session"
	}
	return "extauthz_session"
}

func sessionCookie(value string, maxAge int, secure bool) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // secure where the dashboard is reached by https
		Name: cookieName(secure), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
}

// of returns the session of a request, or nil if it has none.
func (s *sessions) of(r *http.Request) *session {
	// Two cookies of this name may have been set by another site under this host's name.
	cookies := r.CookiesNamed(cookieName(s.secure))
	if len(cookies) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.m[sha256.Sum256([]byte(cookies[0].Value))]
	if found == nil || !s.now().Before(found.expires) {
		return nil
	}
	return found
}

// end ends the session of a request.
func (s *sessions) end(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range r.CookiesNamed(cookieName(s.secure)) {
		delete(s.m, sha256.Sum256([]byte(c.Value)))
	}
}
