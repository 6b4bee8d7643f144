package config

import (
	"io/fs"
	"strconv"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Socket configures who on this machine may connect to listeners that are unix sockets.
type Socket struct {
	// Mode is the file's mode in octal, such as "0660". Whoever may write may connect.
	// Default: "0660".
	Mode fs.FileMode

	// Group is the name or number of the file's group. The server must be a member of it.
	// Default: "", the group of the process, or that of the folder if it has the setgid bit.
	Group string
}

func (r *reader) socket(n *yaml.Node) {
	r.socketNode = n
	r.Mapping(n, strictyaml.Fields{
		"mode": r.socketMode,
		"group": func(n *yaml.Node) {
			if group, ok := value(r, n, r.Plain); ok && group == "" {
				r.Errorf(n, "group is empty: write the name of a group, or omit the field")
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
		r.Errorf(n, "%q lets no one connect, because connecting requires write permission: write one such as \"0660\"", written(n))
		return
	case mode&0o002 != 0:
		r.Warnf(n, "%s lets every user of this machine connect: write \"0660\", and the group that Envoy is in", written(n))
	}
	r.c.Socket.Mode = fs.FileMode(mode)
}
