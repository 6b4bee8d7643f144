package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// A bed is the environment of all measurements: a folder, and the programs.
type bed struct {
	dir      string // for files, sockets and logs; short, for a socket's path may have 108 bytes
	self     string // this program
	extauthz string
	envoy    string
	module   string // libextauthz.so
	closers
}

// A server answers checks at addr, host:port or unix:/path.
type server struct {
	*process
	addr string
	keys keySet
}

// address returns a new address, of TCP or of a unix socket with this name.
func (b *bed) address(name, network string) string {
	if network == "unix" {
		return "unix:" + filepath.Join(b.dir, name+".sock")
	}
	return freePort()
}

// keyFile returns the path of a key file with the keys, which is written once.
func (b *bed) keyFile(s keySet) (string, error) {
	path := filepath.Join(b.dir, fmt.Sprintf("keys-%d-%d.yaml", s.keys, s.ranges))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, s.writeYAML(path, noKey)
}

// peer starts one of the peers.
func (b *bed) peer(kind, network string, s keySet) (*server, error) {
	file, err := b.keyFile(s)
	if err != nil {
		return nil, err
	}
	name := kind + "-" + network
	addr := b.address(name, network)
	return b.serve(name, addr, s, b.self, "peer", kind, addr, file)
}

// yaml starts extauthz, or another program with the same flags, over a key file.
func (b *bed) yaml(name, network string, s keySet, program ...string) (*server, error) {
	file, err := b.keyFile(s)
	if err != nil {
		return nil, err
	}
	addr := b.address(name, network)
	if len(program) == 0 {
		program = []string{b.extauthz}
	}
	return b.serve(name, addr, s, append(program, "serve", "--keys", file, "--listen", addr, "--admin", "none")...)
}

// postgres starts extauthz over a database with the keys.
func (b *bed) postgres(ctx context.Context, db *database, name string, s keySet) (*server, error) {
	dsn, err := db.fill(ctx, name, s)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, name+".yaml")
	config := fmt.Sprintf("store: {postgres: {dsn: %q}}\nadmin: {listen: none}\ncache: {ttl: 1h, max_stale: 2h, lookup_timeout: 5s}\n", dsn)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	addr := freePort()
	return b.serve(name, addr, s, b.extauthz, "serve", "--config", file, "--listen", addr)
}

func (b *bed) serve(name, addr string, s keySet, args ...string) (*server, error) {
	p, err := start(b.dir, name, args, listens(addr))
	if err != nil {
		return nil, err
	}
	b.add(p.stop)
	return &server{p, addr, s}, nil
}
