// Package signals receives the signals of a server from the start of the process. It only imports
// packages that initialize quickly, so that it is initialized before those that do not.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

// Serve is the command whose signals are received. Other commands end on a signal, as usual.
const Serve = "serve"

// C delivers SIGTERM, SIGINT and SIGHUP to a server. It is nil for other commands.
var C = receive(os.Args)

func receive(args []string) <-chan os.Signal {
	if len(args) < 2 || args[1] != Serve {
		return nil
	}
	// Writing to a log without a reader is an error, and must not end the process.
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 16)
	// Signals stay caught until the exit: one too many must not change the exit code.
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return c
}
