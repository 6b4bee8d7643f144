package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"extauthz/keystore"
)

type newKeyData struct {
	Form *formState
}

type secretData struct {
	Key     *keystore.Key
	Secret  string // shown once
	Rotated bool
	Curl    string // a command that tries the secret
}

func (d *Dashboard) secretData(k *keystore.Key, secret keystore.Secret, rotated bool) secretData {
	data := secretData{Key: k, Secret: string(secret), Rotated: rotated}
	if d.cfg.Curl != nil {
		data.Curl = d.cfg.Curl(data.Secret)
	} else {
		data.Curl = fmt.Sprintf("curl -i -H 'x-api-key: %s' http://127.0.0.1:10000/", data.Secret)
	}
	return data
}

func (d *Dashboard) newKeyPage(w http.ResponseWriter, r *http.Request, s *session) {
	d.render(w, r, http.StatusOK, "new", "New key", s, newKeyData{})
}

func (d *Dashboard) newKey(w http.ResponseWriter, r *http.Request, s *session) {
	if err := r.ParseForm(); err != nil {
		d.failForm(w, r, err)
		return
	}
	again := func(err error) {
		d.render(w, r, http.StatusUnprocessableEntity, "new", "New key", s, newKeyData{&formState{Values: r.PostForm, Err: err}})
	}
	k, err := parseNewKey(r, d.cfg.Now())
	if err != nil {
		again(err)
		return
	}
	secret := keystore.NewSecret(d.cfg.SecretPrefix)
	k.Hash = secret.Hash()
	if err := k.Validate(); err != nil {
		again(err)
		return
	}
	err = d.cfg.Keys.Add(keystore.WithActor(r.Context(), s.user), k)
	switch {
	case errors.Is(err, keystore.ErrExists):
		again(errors.New("id: there is a key with this id already: write another"))
	case err != nil:
		d.cfg.Log.Error("a key cannot be added", "key_id", k.ID, "error", err)
		d.fail(w, r, http.StatusBadGateway, "The store did not take the key. The program's log says why.")
	default:
		d.render(w, r, http.StatusCreated, "secret", "New key", s, d.secretData(k, secret, false))
	}
}

func parseNewKey(r *http.Request, now time.Time) (*keystore.Key, error) {
	value := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	k := &keystore.Key{ID: value("id"), Name: value("name"), ExternalID: value("external_id"), Enabled: true, Whitelist: keystore.Anywhere()}
	if k.ID == "" {
		k.ID = keystore.NewID()
	}
	if value("entries") != "" {
		entries, err := parseLines(r.PostFormValue("entries"))
		if err != nil {
			return nil, err
		}
		k.Whitelist = keystore.NewWhitelist(entries)
	} else if value("anywhere") != "yes" {
		return nil, errors.New("write the addresses from which the key may be used, or say that it may be used from anywhere")
	}
	if value("mode") != "" {
		mode, err := keystore.ParseWhitelistMode(value("mode"))
		if err != nil {
			return nil, err
		}
		k.WhitelistMode = mode
	}
	expire, err := parseExpire(r, now)
	if err != nil {
		return nil, err
	}
	k.Permissions = strings.FieldsFunc(r.PostFormValue("permissions"), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	return k, expire(k)
}

// graces are how long the old secret of a rotated key may go on.
var graces = map[string]time.Duration{"0": 0, "1h": time.Hour, "24h": 24 * time.Hour, "168h": 7 * 24 * time.Hour}

// rotate gives a key a new secret, which it shows once.
func (d *Dashboard) rotate(w http.ResponseWriter, r *http.Request, s *session) {
	k := d.formKey(w, r)
	if k == nil {
		return
	}
	grace, ok := graces[r.PostFormValue("grace")]
	if !ok {
		d.failForm(w, r, errors.New("no such grace"))
		return
	}
	question := ""
	if grace == 0 {
		question = "The secret in use stops working at once. Shall it?"
	}
	if c := d.mustConfirm(r, k, k, question); c != nil {
		d.render(w, r, c.status(), "confirm", "Please confirm", s, c)
		return
	}
	secret := keystore.NewSecret(d.cfg.SecretPrefix)
	var until time.Time
	if grace > 0 {
		until = d.cfg.Now().Add(grace).UTC().Truncate(time.Second)
	}
	err := d.update(r.Context(), s, k, func(k *keystore.Key) error {
		k.Rotate(secret.Hash(), until)
		return nil
	})
	if err != nil {
		d.editFailed(w, r, s, k, err)
		return
	}
	d.render(w, r, http.StatusOK, "secret", "New secret", s, d.secretData(k, secret, true))
}
