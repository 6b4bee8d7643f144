package config

import (
	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Audit says where `extauthz key` and `extauthz dashboard` log the edits that they make, one JSON object
// a line, besides the trail in the store, which is always written.
type Audit struct {
	// Path is the file, stderr for standard error, or none for no log. A relative path starts from
	// the configuration file's folder. Default: none.
	Path string
}

// The values of [Audit.Path] that are no file.
const (
	AuditNowhere = "none"
	AuditStderr  = "stderr"
)

func (r *reader) audit(n *yaml.Node) {
	a := &r.c.Audit
	r.Mapping(n, strictyaml.Fields{
		"path": func(n *yaml.Node) { r.logPath(n, &a.Path, "audit.log", AuditStderr, AuditNowhere) },
	})
}
