package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Redis loses its keys, restarts and hangs while events go to routes on two nodes: no event comes twice, out of order
// or in another form. Afterwards all come, and connections stay. No event is lost while nothing is wrong.
func TestRoutesInTroubleWithRedis(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	config := routesOn("redis "+redis.URL, "route /json/{room}/ {\ngroups r_{room}\n"+routeRules("a")+"}\n"+
		"route /text/{room}/ {\ngroups r_{room} other\non x.y text text\n}\n")
	nodes := []*peers.Relay{peers.StartRelay(t, config), peers.StartRelay(t, config)}
	const rooms, clients = 2, 60
	crowd := make([]*routeClient, clients)
	if err := each(clients, func(i int) (err error) {
		crowd[i], err = dialRoute(nodes[i/4%2], fmt.Sprintf("/%s/%d/", []string{"json", "text"}[i/2%2], i%rooms))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	emitter := peers.StartEmitter(t, redis.URL)
	next := 1
	for _, trouble := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"wipe", func() { t.Log("deleted", emitter.WipeGroups(redis.URL)) }},
		{"flushall", func() { redis.Do("FLUSHALL") }},
		{"restart", func() { redis.Kill(); redis.Restart() }},
		{"frozen", func() {
			redis.Signal(syscall.SIGSTOP)
			time.Sleep(10 * time.Second) // the fault itself
			redis.Signal(syscall.SIGCONT)
		}},
		{"killed clients", func() { redis.KillClients() }},
	} {
		const events = 1200
		var waits []func() peers.Paced
		for room := range rooms {
			waits = append(waits, emitter.PaceMessages(fmt.Sprint("r_", room), map[string]any{"type": "x.y"}, next, events,
				2*time.Millisecond))
		}
		testkit.Eventually(t, "events", func() bool {
			seen, _, _ := crowd[0].numbers()
			return len(seen) > 0 && seen[len(seen)-1] > next+100
		})
		trouble.do()
		failed := 0
		for _, wait := range waits {
			failed += len(wait().Failed)
		}
		next += events
		last := next
		next++
		for room := range rooms {
			m := map[string]any{"type": "x.y", "n": last, "text": fmt.Sprint("m", last)}
			emitter.SendMessage(fmt.Sprint("r_", room), m)
		}
		lost := 0
		for _, c := range crowd {
			if err := testkit.Poll(15*time.Second, nil, func() error {
				seen, _, ended := c.numbers()
				if len(seen) == 0 || seen[len(seen)-1] < last {
					return errors.Join(fmt.Errorf("%s: %d events, not %d", c.name, len(seen), last), ended)
				}
				return nil
			}); err != nil {
				t.Errorf("after %s: %v", trouble.name, err)
			}
			if err := c.checkOrder(); err != nil {
				t.Errorf("after %s: %v", trouble.name, err)
			}
			seen, _, _ := c.numbers()
			n := 0
			for _, k := range seen {
				if k >= last-events {
					n++
				}
			}
			lost += events + 1 - n
			if trouble.name == "nothing" && n != events+1 {
				t.Errorf("%s: %d of %d events", c.name, n, events+1)
			}
		}
		t.Logf("%s: %d sends failed, %d of %d frames missing", trouble.name, failed, lost, clients*(events+1))
		if t.Failed() {
			break
		}
	}
}
