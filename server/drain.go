package server

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// sameSignal is how long after a signal a second one is ignored: some supervisors send it both to the
// process and to its group.
const sameSignal = 500 * time.Millisecond

// drain reports NOT_SERVING, continues to serve for shutdown.drain, and returns once the requests in
// flight are answered, or shutdown.timeout expires. A second signal to stop ends it at once.
func (s *server) drain(signals <-chan os.Signal) {
	began, cfg := time.Now(), s.now.Load().cfg.Shutdown
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
	case <-time.After(cfg.Drain):
	case <-again:
	}
	servers := s.front.drain()
	done := make(chan struct{})
	go func() {
		var wg sync.WaitGroup
		for _, g := range servers {
			wg.Go(g.GracefulStop)
		}
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.log.Info("stopped")
		return
	case <-time.After(cfg.Timeout):
		s.log.Warn("stopping with requests in flight: shutdown.timeout has expired", "timeout", cfg.Timeout.String())
	case <-again:
		s.log.Warn("stopping at once, on a second signal")
	}
	for _, g := range servers {
		g.Stop()
	}
	<-done
}
