package server

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/peer"
)

// maxLoggedPeers bounds the log and the memory of a peerLog.
const maxLoggedPeers = 100

// A peerLog logs which other machines send checks, each once. It is safe for concurrent use.
type peerLog struct {
	log   *slog.Logger
	level slog.Level

	seen atomic.Pointer[map[netip.Addr]bool] // never changes; nil for none
	mu   sync.Mutex                          // held to replace it
}

// observe logs the peer of a check, unless it is on this machine or was logged before.
func (l *peerLog) observe(ctx context.Context) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	tcp, ok := p.Addr.(*net.TCPAddr)
	if !ok || tcp.IP.IsLoopback() {
		return
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	addr = addr.Unmap()
	if seen := l.seen.Load(); seen != nil && ((*seen)[addr] || len(*seen) >= maxLoggedPeers) {
		return
	}
	l.add(ctx, addr)
}

func (l *peerLog) add(ctx context.Context, addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[netip.Addr]bool{addr: true}
	if seen := l.seen.Load(); seen != nil {
		if (*seen)[addr] || len(*seen) >= maxLoggedPeers {
			return
		}
		maps.Copy(next, *seen)
	}
	l.seen.Store(&next)
	l.log.Log(ctx, l.level, "checks come from another machine", "peer", addr.String())
	if len(next) == maxLoggedPeers {
		l.log.Log(ctx, l.level, "checks come from many machines: further ones are not logged", "peers", maxLoggedPeers)
	}
}
