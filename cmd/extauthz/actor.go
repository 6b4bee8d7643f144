package main

import (
	"os"
	"os/user"
	"strconv"
)

// actor returns who edits keys by this program: the system's user and host, such as ann@host. A user
// without a name, as in a container, is uid 65532. The environment does not count.
func actor() string {
	uid := strconv.Itoa(os.Getuid())
	name := "uid " + uid
	if u, err := user.LookupId(uid); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
