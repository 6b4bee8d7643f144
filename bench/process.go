package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a server under measurement, in a separate process.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // the file with what it wrote
	done chan struct{}
}

// start runs a program and waits until ready returns nil.
func start(dir, name string, args []string, ready func() error) (*process, error) {
	log := filepath.Join(dir, name+".log")
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the program has its own
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		err := ready()
		if err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s ended: %s", name, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%s is not ready: %w: %s", name, err, p.tail())
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-2000):])
}

// cpu returns the CPU time that the process has used in all its threads, user and system, to
// the nanosecond: the clock of clock_getcpuclockid(3).
func (p *process) cpu() time.Duration {
	const processWide, sched = 0, 2
	id := ^p.cmd.Process.Pid<<3 | processWide | sched
	var t unix.Timespec
	if err := unix.ClockGettime(int32(id), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// rss returns the resident memory in bytes.
func (p *process) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	var size, resident int64
	_, _ = fmt.Sscan(string(b), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// listens returns a function that returns nil if addr, host:port or unix:/path, accepts connections.
func listens(addr string) func() error {
	return func() error {
		conn, err := net.DialTimeout(network(addr), strings.TrimPrefix(addr, "unix:"), time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func network(addr string) string {
	if strings.HasPrefix(addr, "unix:") {
		return "unix"
	}
	return "tcp"
}

// freePort returns an address with a port that is not in use.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}

// closers are called in reverse order.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

func (c *closers) close() {
	for _, f := range slices.Backward(*c) {
		f()
	}
}
