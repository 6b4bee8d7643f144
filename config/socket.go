package config

import (
	"io/fs"
	"strconv"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Socket says who on this machine may connect to listeners that are unix sockets.
type Socket struct {
	// Mode is that of the file, in octal, such as "0660": whoever may write may connect.
	// Default: "0660".
	Mode fs.FileMode

	// Group is the file's group, by its name or number. The server must be a member of it.
	// Default: "", the group of the process, or of the folder if that has the setgid bit.
	Group string
}

func (r *reader) socket(n *yaml.Node) {
	r.socketNode = n
	r.Mapping(n, strictyaml.Fields{
		"mode": r.socketMode,
		"group": func(n *yaml.Node) {
			if group, ok := value(r, n, r.Plain); ok && group == "" {
				r.Errorf(n, "group is empty: write the name of a group, or leave it out")
			} else if ok {
				r.c.Socket.Group = group
			}
		},
	})
}

func (r *reader) socketMode(n *yaml.Node) {
	s, ok := value(r, n, r.Plain)
	if !ok {
		return
	}
	mode, err := strconv.ParseUint(s, 8, 16)
	switch {
	case err != nil || mode > 0o777 || len(s) < 3:
		r.Errorf(n, "%q is not a file mode: write three or four octal digits, such as \"0660\"", written(n))
		return
	case mode&0o222 == 0:
		r.Errorf(n, "%q lets no one connect, for that takes the right to write: write one such as \"0660\"", written(n))
		return
	case mode&0o002 != 0:
		r.Warnf(n, "%s lets every user of this machine connect: write \"0660\", and the group that Envoy is in", written(n))
	}
	r.c.Socket.Mode = fs.FileMode(mode)
}
