package server

import (
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// sameSignal is how long after a signal another one counts as the same: some supervisors send it
// to the process and to its group.
const sameSignal = 500 * time.Millisecond

// drain reports NOT_SERVING, continues to serve for the drain time, and ends once the requests in
// flight are answered, or their time is over. A second signal to stop ends it at once.
func (s *server) drain(g *grpc.Server, signals <-chan os.Signal) {
	began := time.Now()
	s.notServing("stopping")
	again := make(chan struct{})
	go func() {
		for sig := range signals {
			if sig != syscall.SIGHUP && time.Since(began) > sameSignal {
				close(again)
				return
			}
		}
	}()
	select {
	case <-time.After(s.cfg.Shutdown.Drain):
	case <-again:
	}
	done := make(chan struct{})
	go func() { g.GracefulStop(); close(done) }()
	select {
	case <-done:
		s.log.Info("stopped")
		return
	case <-time.After(s.cfg.Shutdown.Timeout):
		s.log.Warn("stopping with requests in flight: shutdown.timeout is over", "timeout", s.cfg.Shutdown.Timeout.String())
	case <-again:
		s.log.Warn("stopping at once, on a second signal")
	}
	g.Stop()
	<-done
}
