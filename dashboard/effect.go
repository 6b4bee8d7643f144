package dashboard

import (
	"context"
	"fmt"
)

// effect says when a change of a key takes effect on the servers.
func (d *Dashboard) effect(ctx context.Context) string {
	if d.cfg.State == nil {
		return ""
	}
	servers, late := 0, 0
	for _, r := range d.cfg.State(ctx).Replicas {
		if servers++; !r.ChannelUp {
			late++
		}
	}
	switch {
	case servers == 0:
		return ""
	case late > 0:
		return fmt.Sprintf("%d of %d servers are not notified of changes, and may use the old record until cache.ttl has passed.", late, servers)
	case servers == 1:
		return "The server has it within a second."
	}
	return fmt.Sprintf("All %d servers have it within a second.", servers)
}
