package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// A reload switches presence on, off and on again: the clients that are connected are present, as those that come
// later.
func TestPresenceIsSwitchedOnByReload(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	config := func(presence string) string {
		return routesOn("redis "+redis.URL, "route /text/{room}/ {\ngroups r_{room}\non x.y text text\n"+presence+"}\n")
	}
	const on = "presence {\ngrace 0s\n}\n"
	r := peers.StartRelay(t, config(""))
	var clients []*routeClient
	connect := func() {
		t.Helper()
		c, err := dialRoute(r, "/text/1/")
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	load := func(presence string) {
		t.Helper()
		if err := r.Load(config(presence)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint(want, " users"), func() error {
			var list struct{ Count int }
			text := fetch(t, r.Admin+"/edgerelay/presence?group=r_1")
			if err := json.Unmarshal([]byte(text), &list); err != nil || list.Count != want {
				return fmt.Errorf("%s: %w", text, err)
			}
			return nil
		})
	}
	connect()
	connect()
	load(on)
	expect(2)
	connect()
	expect(3)
	load("")
	load(on)
	expect(3)
	for i, c := range clients {
		c.raw.Close()
		expect(2 - i)
	}
}
