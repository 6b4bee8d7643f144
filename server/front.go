package server

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// A front serves gRPC on one listener. Its server can be replaced without losing a connection, to change
// settings that a running server cannot change.
type front struct {
	listener net.Listener // each server accepts from a duplicate of it
	failed   chan<- error // why the server stopped without a request to

	mu        sync.Mutex
	server    *grpc.Server // the current one
	accepting net.Listener // the listener of the current server
	replaced  []*grpc.Server
	closing   bool // no server is started any more
}

// serve makes g the current server.
func (f *front) serve(g *grpc.Server) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return nil
	}
	accepting, err := duplicate(f.listener)
	if err != nil {
		return err
	}
	if f.server != nil {
		f.replaced = append(f.replaced, f.server)
		go retire(f.server, f.accepting)
	}
	f.server, f.accepting = g, accepting
	go func() {
		err := g.Serve(accepting)
		f.mu.Lock()
		current := f.server == g && !f.closing
		f.mu.Unlock()
		if current {
			f.failed <- err
		}
	}()
	return nil
}

// retire stops a server that was replaced. It answers the requests that it has accepted, and its clients
// connect to the current server.
func retire(g *grpc.Server, accepting net.Listener) {
	_ = accepting.Close()
	time.Sleep(100 * time.Millisecond) // for connections that were just accepted
	stop := time.AfterFunc(graceful, g.Stop)
	g.GracefulStop()
	stop.Stop()
}

// drain closes the listener, and returns the servers that may have requests in flight.
func (f *front) drain() []*grpc.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
	_ = f.listener.Close()
	if f.server == nil {
		return f.replaced
	}
	return append(f.replaced, f.server)
}

// stop stops all servers at once.
func (f *front) stop() {
	for _, g := range f.drain() {
		g.Stop()
	}
}

// duplicate returns a listener on the same socket, which stays open until both are closed.
func duplicate(lis net.Listener) (net.Listener, error) {
	file, ok := lis.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("a listener of type %T cannot be duplicated", lis)
	}
	f, err := file.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}
