package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"extauthz/polltest"
)

// Sentinels are a master, its replica, and a sentinel that promotes the replica when the master has been
// unreachable for half a second.
type Sentinels struct {
	Master, Replica, Sentinel *Server
}

// masterSet is the sentinel's name for the master.
const masterSet = "extauthz"

// StartSentinels starts them and waits until the sentinel knows the replica.
func StartSentinels(t testing.TB) *Sentinels {
	t.Helper()
	s := &Sentinels{Master: Start(t)}
	s.Replica = Start(t, "--replicaof", "127.0.0.1 "+s.Master.port, "--repl-diskless-sync-delay", "0")
	polltest.Until(t, "the replica is in step", func() bool {
		return strings.Contains(s.Replica.CLI("INFO", "replication"), "master_link_status:up")
	})
	conf := filepath.Join(folder(t), "sentinel.conf") // which it writes to
	text := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 5000\n",
		masterSet, s.Master.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, conf)
	s.Sentinel = start(t, []string{conf, "--sentinel"})
	polltest.Until(t, "the sentinel knows the replica", func() bool {
		out := s.Sentinel.CLI("SENTINEL", "REPLICAS", masterSet)
		return strings.Contains(out, s.Replica.port) && !strings.Contains(out, "disconnected")
	})
	return s
}

// URL returns the sentinel's address and the name of the master as a URL.
func (s *Sentinels) URL() string { return s.Sentinel.URL() + "?master_set=" + masterSet }

// A Cluster is three masters with the slots distributed among them.
type Cluster struct {
	Nodes []*Server
}

// StartCluster starts a cluster and waits until it serves.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	args := []string{"--cluster", "create"}
	for range 3 {
		n := Start(t, "--cluster-enabled", "yes", "--cluster-port", freePort(t), "--cluster-node-timeout", "2000")
		c.Nodes = append(c.Nodes, n)
		args = append(args, n.Addr())
	}
	c.Nodes[0].CLI(append(args, "--cluster-yes")...)
	for _, n := range c.Nodes {
		polltest.Until(t, "the cluster serves", func() bool {
			return strings.Contains(n.CLI("CLUSTER", "INFO"), "cluster_state:ok")
		})
	}
	return c
}

// URL returns the addresses of all nodes as one URL.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr()
	}
	return "redis://" + strings.Join(addrs, ",")
}

// Owner returns the node that a name's slot is on, and one that it is not on.
func (c *Cluster) Owner(name string) (owner, other *Server) {
	for _, n := range c.Nodes {
		if out, err := n.try("EXISTS", name); err == nil && !strings.HasPrefix(out, "MOVED") {
			owner = n
		} else {
			other = n
		}
	}
	return owner, other
}

// MoveSlot moves the slot of a name to another node, with its keys.
func (c *Cluster) MoveSlot(name string, from, to *Server) {
	from.t.Helper()
	slot := from.CLI("CLUSTER", "KEYSLOT", name)
	fromID, toID := from.CLI("CLUSTER", "MYID"), to.CLI("CLUSTER", "MYID")
	to.CLI("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.CLI("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys := from.CLI("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if keys == "" {
			break
		}
		from.CLI(append([]string{"MIGRATE", "127.0.0.1", to.port, "", "0", "5000", "KEYS"}, strings.Split(keys, "\n")...)...)
	}
	for _, n := range []*Server{to, from} {
		n.CLI("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}
