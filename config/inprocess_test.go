package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"extauthz/config"
)

// In another process, the fields of a server have no effect and cause no warning.
func TestInProcess(t *testing.T) {
	const text = "\nlisten: 0.0.0.0:9192\nadmin: {listen: 127.0.0.1:9192}\nstore: {yaml: {path: keys.yaml}}\n"
	c, err := config.Load("there/filter_config", config.Overrides{InProcess: true, Text: text})
	if err != nil || len(c.Warnings) > 0 {
		t.Fatal(err, c.Warnings)
	}
	if c.Listen != (config.Address{}) || c.Memory.Limit != config.NoLimit || len(c.Files) > 0 {
		t.Errorf("listen %s, memory limit %d, files %v", c.Listen, c.Memory.Limit, c.Files)
	}
	if want := filepath.Join("there", "keys.yaml"); c.Store.YAML.Path != want {
		t.Errorf("the store is %s, want %s", c.Store.YAML.Path, want)
	}
	if _, err := config.Load("filter_config", config.Overrides{InProcess: true, Text: text + "x: 1\n"}); err == nil || !strings.Contains(err.Error(), "filter_config:5:1") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := config.Load("filter_config", config.Overrides{Text: text}); err == nil {
		t.Error("a server would listen on one address twice")
	}
}
