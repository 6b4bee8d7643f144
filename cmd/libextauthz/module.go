package main

// #cgo CFLAGS: -std=c11 -Wall -Wextra
// #include <stdlib.h>
// #include "module.h"
import "C"

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/cgo"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"extauthz/config"
	"extauthz/envoymodule"
	"extauthz/server"
)

var filters = envoymodule.Filters{Start: start}

// A backend is a server in this process, and its log.
type backend struct {
	*server.InProcess
	log *server.LogWriter
}

func (b backend) Close() {
	b.InProcess.Close()
	b.log.Close()
}

// textName replaces the path, in errors, of a configuration that is in Envoy's own.
const textName = "filter_config"

func start(source envoymodule.Source) (envoymodule.Backend, error) {
	path := source.Path
	if source.Text != "" {
		path = textName
	}
	log := server.NewLogWriter(os.Stderr)
	validating := bool(C.extauthz_validating())
	p, err := server.Open(context.Background(), server.Options{
		Load: func() (*config.Config, error) {
			c, err := config.Load(path, config.Overrides{InProcess: true, Text: source.Text})
			if validating { // nothing is to be seen of that from outside
				c.Admin.Listen, c.Usage.Record, c.DecisionLog.Path = config.Address{}, false, config.DecisionsNowhere
			}
			return c, err
		},
		Log: log,
	})
	if err != nil {
		log.Close()
		return nil, err
	}
	return backend{p, log}, nil
}

// Envoy ignores SIGPIPE. Go would otherwise end the process if a write to standard output or standard error
// failed, because its reader has closed.
func init() { signal.Ignore(syscall.SIGPIPE) }

// fail writes each line of an error to Envoy's log.
func fail(err error) {
	for line := range strings.Lines(err.Error()) {
		line = "extauthz: " + strings.TrimSpace(line)
		C.extauthz_log((*C.char)(unsafe.Pointer(unsafe.StringData(line))), C.size_t(len(line)))
	}
}

// refuseAfterPanic, deferred, recovers from a panic in a function that then returns no handle.
func refuseAfterPanic() {
	if p := recover(); p != nil {
		fail(fmt.Errorf("a panic in the module: %T", p)) // the value may hold a password
	}
}

//export extauthzOpen
func extauthzOpen(text C.bytes) (handle C.uintptr_t) {
	defer refuseAfterPanic()
	f, err := filters.Open(strings.Clone(view(text)))
	if err != nil {
		fail(err)
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(f))
}

//export extauthzClose
func extauthzClose(handle C.uintptr_t) {
	h := cgo.Handle(handle)
	filters.Close(h.Value().(*envoymodule.Filter))
	h.Delete()
}

//export extauthzOpenRoute
func extauthzOpenRoute(text C.bytes) (handle C.uintptr_t) {
	defer refuseAfterPanic()
	r, err := envoymodule.ParseRoute(strings.Clone(view(text)))
	if err != nil {
		fail(err)
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(r))
}

//export extauthzCloseRoute
func extauthzCloseRoute(handle C.uintptr_t) { cgo.Handle(handle).Delete() }

const patience = 5 * time.Second // for what is written at the end

//export extauthzWait
func extauthzWait() { filters.Wait(patience) }

// view returns bytes of C's as a string that shares their memory.
func view(b C.bytes) string {
	if b.length == 0 {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Pointer(b.data)), int(b.length))
}

// extauthzCheck decides on a request. It never blocks, and never panics: a reply that it did not set
// refuses.
//
//export extauthzCheck
func extauthzCheck(r *C.request) {
	defer func() { _ = recover() }() // from a handle that is not a filter's
	filter := cgo.Handle(r.config).Value().(*envoymodule.Filter)
	defer filter.Recover() // Check itself recovers
	c := envoymodule.NewCall()
	defer c.Release()
	for _, h := range unsafe.Slice(r.headers, r.header_count) {
		c.AddHeader(view(h.name), view(h.value))
	}
	c.SetPeer(view(r.peer))
	if r.route != 0 {
		c.SetRoute(cgo.Handle(r.route).Value().(*envoymodule.Route))
	}
	if !filter.Check(c, stream{r}) {
		r.reply.suspended = true
		return
	}
	write(&c.Reply, &r.reply, unsafe.Pointer(r.scratch), uintptr(r.scratch_size))
}

// A stream is the request of C's during a call.
type stream struct{ r *C.request }

func (s stream) Suspend() envoymodule.Suspended {
	if p := C.extauthz_suspend(s.r); p != nil {
		return suspended{p}
	}
	return nil
}

// suspended is a stream that waits. This side has a reference to it until Resume.
type suspended struct{ s *C.suspended }

func (s suspended) Resume(r *envoymodule.Reply) {
	reply := new(C.reply)
	defer C.extauthz_resume(s.s, reply) // also after a panic: what is not written whole refuses
	write(r, reply, nil, 0)
}
