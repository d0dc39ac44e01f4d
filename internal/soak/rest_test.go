//go:build soak

package soak

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// reading is the vitals of the nodes that run all the time, at rest.
type reading struct {
	relay, ring vitals
	keys        int // in all Redis servers
}

// growth returns an error for each figure of now that exceeds the one of r noticeably.
func (r reading) growth(now reading) error {
	err := r.relay.growth(now.relay)
	if ring := r.ring.growth(now.ring); ring != nil {
		err = errors.Join(err, fmt.Errorf("the node in memory: %w", ring))
	}
	return err
}

// fence begins the keys that each run of a node leaves for a day, by design: see package state.
const fence = "edgerelay:state:asgi:fence:"

// resting are the only other keys at rest, besides that of each node.
var resting = []string{
	"asgi:group:broadcast-group_send", "asgi:group:metrics", "asgi:group:orders-1",
	"edgerelay:history:asgi:gaps", "edgerelay:history:asgi:key", "edgerelay:history:asgi:run",
	"edgerelay:layer:asgi", "edgerelay:nodes:asgi", "edgerelay:presence:asgi:meta", "edgerelay:presence:asgi:nodes",
	"edgerelay:state:asgi:room:bytes", "edgerelay:state:asgi:room:expiry", "edgerelay:state:asgi:room:sizes",
}

// rest waits until the relay is idle and dead nodes are removed, and fails the test if the nodes then hold noticeably
// more than at the first rest.
func (k *soak) rest() {
	k.t.Helper()
	// Histories outlive their last event by half a minute, and killed nodes are removed from Redis within about a
	// minute. The place of a peer that was cut off and then ended may stay for ten minutes, with its groups: see
	// docs/backplane.md. Half a minute may pass before that, and a group with a history stays for almost two minutes
	// after it.
	const patience = 13 * time.Minute
	began := time.Now()
	var now reading
	check := func() (err error) {
		testkit.Pause(nil, 200*time.Millisecond) // a measure costs a collection of garbage
		if now.keys, err = k.idle(); err != nil {
			return err
		}
		if now.relay, err = measure(k.relay, k.store, k.state); err != nil {
			return err
		}
		now.relay.keys = nil // idle has judged them
		if now.ring, err = measure(k.ring); err != nil {
			return err
		}
		if len(k.readings) > 0 {
			return k.readings[0].growth(now)
		}
		return nil
	}
	if err := testkit.Poll(patience, nil, check); err != nil {
		k.t.Errorf("%s the relay at rest after %d plays: %v", time.Now().Format(time.TimeOnly), len(k.readings)+1, err)
		k.keepHeaps(os.TempDir(), 1, k.first)
		k.keepHeaps(os.TempDir(), len(k.readings)+1, k.heaps())
		for _, path := range []string{"/debug/pprof/goroutine?debug=1", "/edgerelay/status", "/edgerelay/peers"} {
			if text, err := get(k.relay.Admin + path); err == nil {
				fmt.Println(text)
			}
		}
	}
	if len(k.readings) == 0 {
		k.first = k.heaps()
	}
	k.readings = append(k.readings, now)
	if folder := os.Getenv("SOAK_HEAPS"); folder != "" {
		k.keepHeaps(folder, len(k.readings), k.heaps())
	}
	k.t.Logf("%s: at rest after %v\n%s", time.Now().Format(time.TimeOnly), time.Since(began).Round(time.Second), k.table())
}

// heaps returns the profiles of the nodes' heaps.
func (k *soak) heaps() map[string]string {
	profiles := map[string]string{}
	for name, r := range map[string]*peers.Relay{"relay": k.relay, "ring": k.ring} {
		profile, err := get(r.Admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			k.t.Errorf("the heap of %s: %v", name, err)
			continue
		}
		profiles[name] = profile
	}
	return profiles
}

// keepHeaps writes the profiles of a rest to files. `go tool pprof -diff_base` compares those of two rests.
func (k *soak) keepHeaps(folder string, rest int, profiles map[string]string) {
	for name, profile := range profiles {
		file := filepath.Join(folder, fmt.Sprintf("soak-%d-%s-heap-%d.pb.gz", os.Getpid(), name, rest))
		k.t.Logf("the heap of %s at rest %d is in %s: %v", name, rest, file, os.WriteFile(file, []byte(profile), 0o600))
	}
}

// idle returns the number of keys in all Redis servers, and an error while the relay has clients, or Redis holds a key
// of clients, of their groups, or of nodes that do not run.
func (k *soak) idle() (keys int, err error) {
	m, err := metrics(k.relay)
	if err != nil {
		return 0, err
	}
	live := 0
	for _, store := range []*peers.Redis{k.store, k.elsewhere, k.state} {
		for _, key := range store.Do("KEYS", "*").([]any) {
			switch name := fmt.Sprint(key); {
			case strings.HasPrefix(name, fence):
				continue
			case strings.HasPrefix(name, "edgerelay:node:"):
				live++
			case !slices.Contains(resting, name):
				return 0, fmt.Errorf("redis holds %s", name)
			}
			keys++
		}
	}
	if open := m["edgerelay_connections"]; open != 0 || live != 3 {
		return 0, fmt.Errorf("%v connections, %d nodes", open, live)
	}
	return keys, nil
}

// table lists the readings, as in docs/reliability.md.
func (k *soak) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| at rest | goroutines | files | sockets | to Redis | heap, MiB | resident, MiB | instances, MiB | "+
		"pooled, MiB | keys in Redis |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	row := func(name string, v vitals, keys int) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %.1f | %.1f | %.1f | %.1f | %d |\n", name, v.goroutines, v.files,
			v.sockets, v.toRedis, mib(v.heap), mib(v.resident), mib(v.instances), mib(v.pooled), keys)
	}
	for i, r := range k.readings {
		row(fmt.Sprintf("after %d plays", i+1), r.relay, r.keys)
	}
	for i, r := range k.readings {
		row(fmt.Sprintf("the node in memory, after %d plays", i+1), r.ring, 0)
	}
	return b.String()
}
