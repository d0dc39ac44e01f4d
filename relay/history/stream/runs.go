package stream

import (
	"context"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// runs are the masters of the cluster, each by the run ID that it made when it started, and the replication ID that it
// made when it became a master. A stream notes those of its master. If the stream is found on another one, either the
// slot has moved, with all of its keys, and the earlier master still is one, or the earlier master was lost, and
// confirmed writes with it. See docs/decisions/history.md#why-does-a-stream-note-its-server
type runs struct {
	mu   sync.Mutex // held while the masters are asked
	live map[string]bool
	// heirs are the replication IDs of masters that another one has replaced. A master that is cut off does not know.
	heirs map[string]bool
	at    time.Time
}

const (
	// runsAge is how long the masters are not asked again.
	runsAge = time.Second
	// runsTimeout bounds the wait for a master that does not answer.
	runsTimeout = 2 * time.Second
)

// isMaster reports whether the server with a run ID and a replication ID is a master of the cluster.
func (s *Store) isMaster(ctx context.Context, run string) bool {
	r := &s.masters
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) > runsAge {
		live, heirs := map[string]bool{}, map[string]bool{}
		var mu sync.Mutex
		ctx, cancel := context.WithTimeout(ctx, runsTimeout)
		defer cancel()
		_ = s.client.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
			info, err := c.InfoMap(ctx, "server", "replication").Result()
			if err != nil {
				return nil // Not known to be one.
			}
			mu.Lock()
			defer mu.Unlock()
			id := info["Replication"]["master_replid"]
			live[info["Server"]["run_id"]+" "+id] = info["Replication"]["role"] == "master"
			heirs[info["Replication"]["master_replid2"]] = true
			return nil
		})
		r.live, r.heirs, r.at = live, heirs, time.Now()
	}
	_, id, _ := strings.Cut(run, " ")
	return r.live[run] && !r.heirs[id]
}
