package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/peer"

	"extauthz/config"
	"extauthz/proctest"
)

// Each other machine that sends checks is logged once, up to a limit.
func TestPeersAreLoggedOnce(t *testing.T) {
	log := &proctest.Buffer{}
	l := &peerLog{log: NewLogger(config.Log{Format: "text"}, log)}
	from := func(addr net.Addr) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: addr})
	}
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	l.observe(t.Context())
	for _, local := range []net.Addr{tcp("127.0.0.1:1"), tcp("127.9.9.9:1"), tcp("[::1]:1"), tcp("[::ffff:127.0.0.1]:1"), &net.UnixAddr{Name: "@", Net: "unix"}} {
		l.observe(from(local))
	}
	if log.String() != "" {
		t.Fatalf("this machine is logged: %s", log)
	}
	for range 3 {
		l.observe(from(tcp("192.0.2.7:1000")))
		l.observe(from(tcp("[::ffff:192.0.2.7]:1001")))
		l.observe(from(tcp("[2001:db8::1]:1001")))
	}
	if text := log.String(); strings.Count(text, "peer=192.0.2.7\n") != 1 || strings.Count(text, "\n") != 2 {
		t.Errorf("want one line a peer:\n%s", text)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				l.observe(from(tcp(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))))
			}
		})
	}
	wg.Wait()
	if n := strings.Count(log.String(), "\n"); n != maxLoggedPeers+1 {
		t.Errorf("%d lines, want one for each of %d peers, and one that there are more", n, maxLoggedPeers)
	}
	ctx := from(tcp("10.0.0.1:1"))
	if n := testing.AllocsPerRun(100, func() { l.observe(ctx) }); n != 0 {
		t.Errorf("a check from another machine allocates %.0f times", n)
	}
}
