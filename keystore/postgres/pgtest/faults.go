//go:build linux

package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Close stops the server at once and removes its data.
func (s *Server) Close() {
	if s.cmd != nil {
		s.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

// Stop shuts the server down, which ends its connections.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-s.exited:
	case <-time.After(patience):
		tb.Fatalf("the server does not stop\n%s", s.Log())
	}
}

// Kill ends all processes of the server by SIGKILL, like a crash of its machine.
func (s *Server) Kill() {
	s.signal(syscall.SIGSTOP) // so that it starts no other process in the meantime
	s.signal(syscall.SIGKILL)
	<-s.exited
}

// Restart starts the server again after Stop or Kill, at the same address.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := s.run()
		if err == nil {
			return
		}
		// Killed processes hold the shared memory until they have ended.
		log := s.Log()
		last := log[strings.LastIndex(log, "\n")+1:]
		if !strings.Contains(last, "Terminate any old server processes") || time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

// Pause freezes all processes of the server by SIGSTOP: connections stay open, and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal sends a signal to the server and its children, which are in other process groups.
func (s *Server) signal(sig syscall.Signal) {
	select {
	case <-s.exited:
		return // its pid may have been reused
	default:
	}
	children := childrenOf(s.cmd.Process.Pid)
	_ = s.cmd.Process.Signal(sig)
	if sig == syscall.SIGSTOP {
		children = childrenOf(s.cmd.Process.Pid) // those started in the meantime
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, sig) // it may have ended
	}
}

// childrenOf reads proc_pid_stat(5).
func childrenOf(parent int) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		stat, _ := os.ReadFile(file)
		// pid (name) state ppid …, and the name may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
