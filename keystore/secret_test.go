package keystore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"extauthz/keystore"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const secret = keystore.Secret("key_live_4eC39HqLyjWD")
	type request struct {
		Secret  keystore.Secret
		Secrets []keystore.Secret
		Nested  map[string]keystore.Secret
		Behind  any
	}
	values := map[string]any{
		"value":   secret,
		"pointer": func() *keystore.Secret { s := secret; return &s }(),
		"field":   request{Secret: secret, Secrets: []keystore.Secret{secret}, Nested: map[string]keystore.Secret{"a": secret}, Behind: secret},
		"slice":   []keystore.Secret{secret},
		"map":     map[string]keystore.Secret{"a": secret},
	}
	hidden := func(how, printed string) {
		t.Helper()
		for _, part := range []string{string(secret), fmt.Sprintf("%x", string(secret)), fmt.Sprintf("%X", string(secret)), "4eC39"} {
			if strings.Contains(printed, part) {
				t.Errorf("%s shows the secret: %s", how, printed)
			}
		}
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%+q", "%#q", "%x", "%X", "% x", "%#x", "%d", "%t", "%U", "%10s", "%.30s", "%!"} {
			hidden(name+" "+verb, fmt.Sprintf(verb, v))
		}
		hidden(name+" Println", fmt.Sprintln(v))
		hidden(name+" error", fmt.Errorf("looking up %v: %w", v, errors.New("refused")).Error())
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		hidden(name+" JSON", string(b))
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).With("with", v).Info("a request", "secret", v, slog.Group("g", "in", v))
		slog.New(slog.NewJSONHandler(&js, nil)).With("with", v).Info("a request", "secret", v, slog.Group("g", "in", v))
		hidden(name+" slog text", text.String())
		hidden(name+" slog JSON", js.String())
	}
	for _, verb := range []string{"%v", "%s", "%#v", "%x"} {
		if got := fmt.Sprintf(verb, secret); got != "REDACTED" {
			t.Errorf("%s prints %q, want REDACTED", verb, got)
		}
	}
}

func TestSecretHash(t *testing.T) {
	for secret, want := range map[string]string{ // FIPS 180-4's examples, and as sha256sum prints them
		"":                       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"abc":                    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"foo":                    "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
		strings.Repeat("a", 128): "6836cf13bac400e9105071cd6af47084dfacad4e5e302c94bfed24e013afb73e",
		strings.Repeat("a", 129): "c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae",
		strings.Repeat("a", 512): "471be6558b665e4f6dd49f1184814d1491b0315d466beea768c153cc5500c836",
		strings.Repeat("a", 513): "02425c0f5b0dabf3d2b9115f3f7723a02ad8bcfb1534a0d231614fd42b8188f6",
	} {
		if got := keystore.Secret(secret).Hash().String(); got != want {
			t.Errorf("%d bytes: %s, want %s", len(secret), got, want)
		}
	}
	s := keystore.Secret(strings.Repeat("s", 512))
	if n := testing.AllocsPerRun(100, func() { s.Hash() }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestParseHash(t *testing.T) {
	h := keystore.Secret("foo").Hash()
	plain := h.String()
	for _, s := range []string{plain, strings.ToUpper(plain), base64.StdEncoding.EncodeToString(h[:])} {
		if got, err := keystore.ParseHash(s); err != nil || got != h {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	const (
		wrongHex    = "hash has 64 characters, but not all are hexadecimal digits: write the SHA-256 of the secret as `extauthz key hash` prints it"
		wrongBase64 = "hash has 44 characters, but is not standard base64 of 32 bytes: write the SHA-256 of the secret as `extauthz key hash` prints it"
		wrongLen    = "hash has %d characters: write the SHA-256 of the secret, as 64 hexadecimal digits or 44 characters of base64; `extauthz key hash` prints it"
		other       = "hash has other text next to the SHA-256, such as the prefix sha256: or colons between its digits: omit that"
		zeros       = "hash is all zeros, which is no secret's: write the SHA-256 of the secret as `extauthz key hash` prints it"
	)
	pairs := regexp.MustCompile(`(..)`)
	all := bytes.Repeat([]byte{0xff}, 32)
	for s, want := range map[string]string{
		"sha256:" + plain:                                    other,
		"SHA256:" + strings.ToUpper(plain):                   other,
		"sha256-" + base64.StdEncoding.EncodeToString(h[:]):  other,
		"{SHA256}" + base64.StdEncoding.EncodeToString(h[:]): other,
		"sha256=" + plain:                                    other,
		"$sha256$" + plain:                                   other,
		"0x" + plain:                                         other,
		plain + "  -":                                        other,
		" " + plain:                                          other,
		plain + "\n":                                         other,
		"SHA2-256(stdin)= " + plain:                          other, // as openssl prints it
		pairs.ReplaceAllString(plain, "$1:"):                 other,
		pairs.ReplaceAllString(plain, "$1 "):                 other,
		"":                                                   fmt.Sprintf(wrongLen, 0),
		"key_live_4eC39HqLyjWD":                              fmt.Sprintf(wrongLen, 21),
		plain[:63]:                                           fmt.Sprintf(wrongLen, 63),
		plain + "0":                                          fmt.Sprintf(wrongLen, 65),
		" " + plain[1:]:                                      wrongHex,
		plain[:63] + "g":                                     wrongHex,
		"0x" + plain[:62]:                                    wrongHex,
		strings.Repeat("é", 32):                              wrongHex,
		strings.Repeat("A", 44):                              wrongBase64, // 33 bytes
		strings.Repeat("-", 44):                              wrongBase64,
		strings.Repeat("0", 64):                              zeros,
		base64.RawStdEncoding.EncodeToString(all):            fmt.Sprintf(wrongLen, 43),
		base64.URLEncoding.EncodeToString(all):               wrongBase64,
		base64.StdEncoding.EncodeToString(make([]byte, 32)):                                zeros,
		strings.Replace(base64.StdEncoding.EncodeToString(all), "8=", "9=", 1):             wrongBase64, // bits after the end
		base64.StdEncoding.EncodeToString(all)[:20] + "\n" + strings.Repeat("/", 22) + "=": wrongBase64,
	} {
		got, err := keystore.ParseHash(s)
		if err == nil || err.Error() != want || got != (keystore.Hash{}) {
			t.Errorf("%q:\ngot  %v (%v)\nwant %s", s, err, got, want)
		}
	}
}
