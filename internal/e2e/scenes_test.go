package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait most of their time, for what peers do once a minute or once a second.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	os.Exit(peers.Main(m))
}

// allScenes is every scene; the files scenes_*_test.go hold them by subject.
func allScenes() []scene {
	var all []scene
	for _, part := range [][]scene{connectScenes, subscribeScenes, accessScenes, eventScenes, junkScenes} {
		all = append(all, part...)
	}
	return all
}

// relayFile is the relay's configuration: before the controller, on its Redis.
func (s *stage) relayFile() string {
	return `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis {
			url ` + s.redis.URL + `
			capacity 10000
		}
		auth awx ` + s.controller.URL + `
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
	reverse_proxy ` + s.controller.Addr() + `
}
`
}

func (s *stage) startRelay(t testing.TB) (*peers.Relay, site) {
	t.Helper()
	r := peers.StartRelay(t, s.relayFile())
	return r, site{name: "relay", url: r.URL, relay: true}
}

// Daphne looks for consumers that died once a second; scenes that wait for that
// wait side by side, each lane with a Daphne and a Redis of its own.
const lanes = 4

// TestScenes plays every scene against Daphne and against the relay: the same
// frames, except where a scene says why not.
func TestScenes(t *testing.T) {
	t.Parallel()
	t.Run("daphne", func(t *testing.T) {
		for lane := range lanes {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				for i, sc := range allScenes() {
					if i%lanes == lane {
						t.Run(sc.name, func(t *testing.T) { s.play(t, s.daphne(), sc) })
					}
				}
			})
		}
	})
	t.Run("relay", func(t *testing.T) {
		s := newStage(t)
		_, relay := s.startRelay(t)
		for _, sc := range allScenes() {
			t.Run(sc.name, func(t *testing.T) { s.play(t, relay, sc) })
		}
	})
}
