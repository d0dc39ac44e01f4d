package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// routesOn is a Caddyfile with routes.
func routesOn(layer, routes string) string {
	return "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nchannel_layer " + layer + "\nauth none\n}\n}\n" +
		"{$SITE} {\nbind 127.0.0.1\nedgerelay {\n" + routes + "}\nedgerelay_health\nrespond \"next\"\n}\n"
}

// Rules change every 300 ms on two nodes under load: each client gets each event once and in order, in the form of the
// rules before or after; the clients of a route on a node get an event in the same form. Connections stay. A route that
// goes, or gets other groups, ends with 1012, and only it.
func TestRoutesUnderReloads(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	config := func(form, more string) string {
		return routesOn("redis "+redis.URL, "route /json/{room}/ {\ngroups r_{room}\n"+routeRules(form)+"}\n"+
			"route /text/{room}/ {\ngroups r_{room} other\non x.y text text\n}\n"+more)
	}
	gone := "route /gone/{room}/ {\ngroups r_{room}\non x.y text text\n}\n"
	nodes := []*peers.Relay{peers.StartRelay(t, config("a", gone)), peers.StartRelay(t, config("a", gone))}
	emitter := peers.StartEmitter(t, redis.URL)
	const rooms, clients, events = 4, 240, 1500
	crowd := make([]*routeClient, clients)
	path := func(i int) string {
		return fmt.Sprintf("/%s/%d/", []string{"json", "text", "gone"}[i/rooms%3], i%rooms)
	}
	if err := each(clients, func(i int) (err error) {
		crowd[i], err = dialRoute(nodes[i/rooms/3%2], path(i))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var paced []func() peers.Paced
	for room := range rooms {
		paced = append(paced, emitter.PaceMessages(fmt.Sprint("r_", room), map[string]any{"type": "x.y"}, 1, events,
			4*time.Millisecond))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, wait := range paced {
			wait()
		}
	}()
	reloads := 0
	for running := true; running; reloads++ {
		if err := nodes[reloads%2].Load(config(string("ab"[reloads/2%2]), gone)); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			running = false
		case <-time.After(150 * time.Millisecond):
		}
	}
	t.Log(reloads, "reloads")
	forms := map[string]string{}
	for i, c := range crowd {
		c.checkAll(t, 1, events)
		seen, got, _ := c.numbers()
		for k, n := range seen {
			key := fmt.Sprint(i/rooms/3%2, path(i), n)
			if f := forms[key]; f != "" && f != got[k] {
				t.Errorf("event %s in the forms %s and %s", key, f, got[k])
			}
			forms[key] = got[k]
		}
		if t.Failed() {
			t.Log(nodes[0].Log()[max(0, len(nodes[0].Log())-3000):])
			t.FailNow()
		}
	}
	for _, r := range nodes {
		if err := r.Load(config("a", "")); err != nil {
			t.Fatal(err)
		}
	}
	emitter.SendMessage("r_0", map[string]any{"type": "x.y", "n": events + 1, "text": fmt.Sprint("m", events+1)})
	for i, c := range crowd {
		if i/rooms%3 == 2 {
			testkit.Eventually(t, "1012", func() error {
				if _, _, ended := c.numbers(); ended == nil || ended.(wstest.ClosedError).Code != 1012 {
					return fmt.Errorf("the end is %v", ended)
				}
				return nil
			})
			continue
		}
		if i%rooms == 0 {
			c.checkAll(t, 1, events+1)
		}
	}
}
