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
	cookieName      = "extauthz_session"
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
	now func() time.Time

	mu sync.Mutex
	m  map[[sha256.Size]byte]*session
}

// start begins a session and returns its cookie.
func (s *sessions) start(user string, role Role, secure bool) *http.Cookie {
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
	return sessionCookie(id, int(sessionDuration.Seconds()), secure)
}

func sessionCookie(value string, maxAge int, secure bool) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // secure where the dashboard is reached by https
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
}

// of returns the session of a request, or nil if it has none.
func (s *sessions) of(r *http.Request) *session {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.m[sha256.Sum256([]byte(c.Value))]
	if found == nil || !s.now().Before(found.expires) {
		return nil
	}
	return found
}

// end ends the session of a request.
func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		delete(s.m, sha256.Sum256([]byte(c.Value)))
		s.mu.Unlock()
	}
}
