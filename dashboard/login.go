package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Login authenticates users. It is safe for concurrent use.
type Login interface {
	// Page returns what the login page offers for a request.
	Page(r *http.Request) LoginPage

	// Begin handles the form of the login page. It returns who has logged in, or where to go
	// on, or an error that the user may see.
	Begin(w http.ResponseWriter, r *http.Request) (user string, role Role, next string, err error)

	// Callback handles the way back from another site, where Begin sent the user.
	Callback(w http.ResponseWriter, r *http.Request) (user string, role Role, err error)
}

// A LoginPage is what the login page offers.
type LoginPage struct {
	Token  string // to be sent back by the form; empty for none
	Button string // of the form; empty: there is nothing to do here
	Text   string

	// FormTarget is where the form leads beside the dashboard itself, as scheme://host.
	FormTarget string
}

// LoginError is an error that the user who logs in may see.
type LoginError string

func (e LoginError) Error() string { return string(e) }

const (
	tokenDuration = 10 * time.Minute
)

// A TokenLogin lets whoever has its token in, once, as an editor. Make one with [NewTokenLogin].
type TokenLogin struct {
	user string
	now  func() time.Time

	mu      sync.Mutex
	hash    [sha256.Size]byte
	expires time.Time // zero once the token is used
}

// NewTokenLogin returns a login of one user with a fresh token, which works once within ten minutes.
func NewTokenLogin(user string, now func() time.Time) (l *TokenLogin, token string) {
	token = rand.Text()
	return &TokenLogin{user: user, now: now, hash: sha256.Sum256([]byte(token)), expires: now().Add(tokenDuration)}, token
}

// Page implements [Login].
func (l *TokenLogin) Page(r *http.Request) LoginPage {
	if token := r.URL.Query().Get("token"); token != "" {
		return LoginPage{Token: token, Button: "Log in"}
	}
	return LoginPage{Text: "Open the link that the program printed when it started. It works once. Start the program again for another."}
}

// Begin implements [Login].
func (l *TokenLogin) Begin(_ http.ResponseWriter, r *http.Request) (user string, role Role, next string, err error) {
	given := sha256.Sum256([]byte(r.PostFormValue("token")))
	l.mu.Lock()
	defer l.mu.Unlock()
	if subtle.ConstantTimeCompare(given[:], l.hash[:]) != 1 || !l.now().Before(l.expires) {
		return "", Nobody, "", LoginError("This link was used already, is over ten minutes old, or is not the one that was printed. Start the program again for another.")
	}
	l.expires = time.Time{}
	return l.user, Editor, "", nil
}

// Callback implements [Login].
func (l *TokenLogin) Callback(http.ResponseWriter, *http.Request) (user string, role Role, err error) {
	return "", Nobody, LoginError("There is nothing to come back from.")
}

func (d *Dashboard) loginPage(w http.ResponseWriter, r *http.Request) {
	page := d.cfg.Login.Page(r)
	if page.FormTarget != "" {
		w.Header().Set("Content-Security-Policy", strings.Replace(policy, "form-action 'self'", "form-action 'self' "+page.FormTarget, 1))
	}
	d.render(w, r, http.StatusOK, "login", "Log in", nil, page)
}

func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) {
	if !d.attempts.take(r.RemoteAddr, d.cfg.Now()) {
		d.fail(w, r, http.StatusTooManyRequests, "There were too many attempts to log in. Try again in a minute.")
		return
	}
	user, role, next, err := d.cfg.Login.Begin(w, r)
	switch {
	case err != nil:
		d.loginFailed(w, r, err)
	case next != "":
		http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // the provider that the configuration names
	default:
		d.enter(w, r, user, role)
	}
}

func (d *Dashboard) loginCallback(w http.ResponseWriter, r *http.Request) {
	if !d.attempts.take(r.RemoteAddr, d.cfg.Now()) {
		d.fail(w, r, http.StatusTooManyRequests, "There were too many attempts to log in. Try again in a minute.")
		return
	}
	user, role, err := d.cfg.Login.Callback(w, r)
	if err != nil {
		d.loginFailed(w, r, err)
		return
	}
	d.enter(w, r, user, role)
}

// enter begins a session. The page that follows has a link: a browser does not send a strict
// cookie when another site has led it here, even by a redirect.
func (d *Dashboard) enter(w http.ResponseWriter, r *http.Request, user string, role Role) {
	if role == Nobody {
		d.loginFailed(w, r, LoginError("You are known, but not on the list of those who may use this dashboard."))
		return
	}
	d.attempts.forget(r.RemoteAddr)
	d.sessions.end(r) // what the browser had before is of no use to anyone
	http.SetCookie(w, d.sessions.start(user, role))
	d.cfg.Log.Info("logged in", "user", user)
	if r.Method == http.MethodPost {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	d.render(w, r, http.StatusOK, "welcome", "Logged in", nil, nil)
}

func (d *Dashboard) loginFailed(w http.ResponseWriter, r *http.Request, err error) {
	d.cfg.Log.Warn("a login failed", "error", clip(err.Error()))
	text := "Logging in failed. The program's log says why."
	if shown, ok := errors.AsType[LoginError](err); ok {
		text = shown.Error()
	}
	d.fail(w, r, http.StatusForbidden, text)
}

func (d *Dashboard) logout(w http.ResponseWriter, r *http.Request) {
	d.sessions.end(r)
	http.SetCookie(w, sessionCookie("", -1, d.cfg.TLS))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
