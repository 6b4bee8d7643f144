package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"extauthz/config"
	"extauthz/keystore/yamlfile"
)

// The rendered configurations are ones that the product itself reads, and say what the chart promises.
func TestConfigurations(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := render(t, readValues(t, file))
			maps := all[*corev1.ConfigMap](r)
			if len(maps) == 0 {
				t.Fatal("no ConfigMap")
			}
			for _, m := range maps {
				c := load(t, m.Data["extauthz.yaml"])
				switch {
				case strings.HasSuffix(m.Name, "-migrate"):
					if c.Store.Postgres == nil {
						t.Error("the migration is not of Postgres")
					}
				case strings.HasSuffix(m.Name, "-dashboard"):
					if c.Dashboard.Listen.Address != ":9194" || c.Dashboard.Login != config.LoginByOIDC || c.TLS.CertFile != "" {
						t.Errorf("dashboard: %+v", c.Dashboard)
					}
				default:
					if c.Listen.Address != ":9191" || c.Admin.Listen.Address != ":9192" || c.DryRun {
						t.Errorf("listens on %v and %v", c.Listen, c.Admin.Listen)
					}
					if withTLS := strings.Contains(file, "tls") || strings.Contains(file, "everything"); withTLS != (len(c.TLS.ClientNames) > 0 && c.TLS.ClientCAFile != "") {
						t.Errorf("TLS: %+v", c.TLS)
					}
				}
			}
		})
	}
}

// load reads a configuration as the server does, with its environment, and certificates where it has them.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	for name, value := range map[string]string{
		"EXTAUTHZ_POSTGRES_DSN":       "postgres://extauthz:secret@db:5432/extauthz",
		"EXTAUTHZ_POSTGRES_LISTEN":    "postgres://extauthz:secret@db:5432/extauthz",
		"EXTAUTHZ_REDIS_URL":          "redis://:secret@redis:6379",
		"EXTAUTHZ_OIDC_CLIENT_SECRET": "secret",
		"RATELIMIT_URL":               "redis://redis:6379",
	} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "extauthz.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, config.Overrides{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// Large numbers arrive as they were written, in the configuration and in the keys.
func TestKeysInTheValues(t *testing.T) {
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "yaml-values.yaml")))
	if c := load(t, all[*corev1.ConfigMap](r)[0].Data["extauthz.yaml"]); c.GRPC.MaxMessageSize != 1<<30 || c.ClientAddress.TrustedHops != 1 {
		t.Errorf("read %+v %+v", c.GRPC, c.ClientAddress)
	}
	secrets := all[*corev1.Secret](r)
	if len(secrets) != 1 {
		t.Fatal(secrets)
	}
	if n := loadKeys(t, secrets[0].StringData["keys.yaml"]); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// loadKeys reads a key file as the server does, and returns how many keys it has.
func loadKeys(t *testing.T, text string) int {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := yamlfile.Open(dir, yamlfile.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return store.Len()
}
