// Package signals receives the signals of a server from the first moment of the process on. It
// imports nothing that takes time to initialize, so that it is initialized before what does.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

// Serve is the command whose signals are received. Signals end the other commands, as usual.
const Serve = "serve"

// C delivers SIGTERM, SIGINT and SIGHUP to a server; nil for another command.
var C = receive(os.Args)

func receive(args []string) <-chan os.Signal {
	if len(args) < 2 || args[1] != Serve {
		return nil
	}
	// Writing to a log that nobody reads any more is an error, and does not end the process.
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 16)
	// Until the very end: one signal too many must not change the exit code.
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return c
}
