package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// typesSite is a Caddyfile with a route of a path parameter, and one of groups of the user.
const typesSite = `{
	admin {$ADMIN}
	edgerelay {
		channel_layer %s
		auth caddy {
			allow orders-*
		}
	}
}
{$SITE} {
	map {header.X-User} {http.auth.user.id} {
		~(.+) "${1}"
	}
	edgerelay {
		route /ws/orders/{id}/ {
			groups orders-{id}
			on     order.changed json state total
		}
		route /ws/inbox/ {
			groups user-{user} everybody
			on     note.added    text text
			on     order.changed ignore
		}
	}
	respond "next"
}
`

// startDoctor runs doctor --channels while emit runs again and again, so that it does not matter when it begins to
// listen.
func startDoctor(t *testing.T, r *peers.Relay, span string, emit func()) (out string, code int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, code = run(t, r, "doctor", "--channels", "--for", span)
	}()
	for {
		select {
		case <-done:
			return out, code
		default:
			emit()
		}
	}
}

// wantFinding fails unless one line of a report begins and ends so, and contains all parts.
func wantFinding(t *testing.T, out, mark, check string, parts ...string) {
	t.Helper()
	for line := range strings.Lines(out) {
		found := strings.HasPrefix(line, mark) && strings.Contains(line, "  "+check+"  ")
		for _, part := range parts {
			found = found && strings.Contains(line, part)
		}
		if found {
			return
		}
	}
	t.Errorf("no line %s %s with %q in:\n%s", mark, check, parts, out)
}

// doctor --channels names the types that real emitters send to the groups of a site, for each route, although other
// processes alone have some of the groups.
func TestDoctorOfChannels(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	for _, layer := range []struct{ class, name string }{
		{peers.CoreLayer, "redis"}, {peers.PubSubLayer, "redis_pubsub"},
	} {
		t.Run(layer.name, func(t *testing.T) {
			config := map[string]any{"hosts": []string{redis.URL}, "prefix": layer.name}
			python := peers.StartLayer(t, layer.class, config)
			r := peers.StartRelay(t, fmt.Sprintf(typesSite, layer.name+" "+redis.URL+" {\nprefix "+layer.name+"\n}"))
			c := dialAs(t, r.URL+"/ws/orders/1/", "7")
			dialAs(t, r.URL+"/ws/inbox/", "7")
			for _, group := range []string{"orders-2", "everybody", "kitchen"} { // those of Daphne's consumers
				python.Join(group)
			}
			message := func(group, kind string, members ...string) {
				m := map[string]any{"type": kind}
				for _, name := range members {
					m[name] = name
				}
				python.SendMessage(group, m)
			}
			out, code := startDoctor(t, r, "3s", func() {
				message("orders-1", "order.changed", "state", "total")
				message("orders-2", "order.changed", "state")
				message("orders-1", "order.seen")
				message("user-7", "note.added", "text")
				message("user-7", "order.changed", "state")
				message("everybody", "internal.message", "text")
				message("kitchen", "meal.ready", "table")
				message("kitchen", "note.added", "text")
			})
			if code != 0 { // warnings only
				t.Errorf("exit code %d", code)
			}
			wantFinding(t, out, "WARN", "type order.changed", "/ws/orders/{id}/", `no member "total"`, "orders-2")
			wantFinding(t, out, "WARN", "type order.seen", "/ws/orders/{id}/", "has no rule", "orders-1")
			wantFinding(t, out, "ok", "type order.changed", "/ws/inbox/", "user-7")
			wantFinding(t, out, "ok", "type note.added", "/ws/inbox/", "user-7")
			wantFinding(t, out, "ok", "type internal.message", "/ws/inbox/", "everybody")
			wantFinding(t, out, "ok", "type meal.ready", "kitchen", "no route has")
			wantFinding(t, out, "WARN", "type note.added", "kitchen", "no route has")
			c.hear(`{"state": "state", "total": "total"}`)
		})
	}
	t.Run("memory", func(t *testing.T) {
		r := peers.StartRelay(t, fmt.Sprintf(typesSite, "memory"))
		out, code := run(t, r, "doctor", "--channels", "--for", "300ms")
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		wantFinding(t, out, "WARN", "channels", "only the groups of this relay's connections", "open a page")
		dialAs(t, r.URL+"/ws/inbox/", "7")
		out, code = startDoctor(t, r, "1s", func() {
			if _, failed := run(t, r, "publish", "--type", "note.added", "--group", "user-7", "--data", `{"text": "t"}`); failed != 0 {
				t.Fatal("not published")
			}
		})
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		wantFinding(t, out, "ok", "type note.added", "/ws/inbox/", "user-7")
	})
}

// dialAs opens a WebSocket of a route as a user.
func dialAs(t *testing.T, address, user string) *gripClient {
	t.Helper()
	return dialWith(t, address, http.Header{"X-User": {user}})
}

// A group_send of Python reaches a WebSocket that the site has subscribed by GRIP, in the form of the route's rule.
func TestBackendJoinsGroupOfChannels(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	python := peers.StartEmitter(t, redis.URL)
	b := startGripBackend(t, 1)
	r := peers.StartRelay(t, strings.NewReplacer("memory", "redis "+redis.URL, "messages backend",
		"on order.changed json state\n\t\t\tmessages backend").Replace(gripSite("uwsgi://"+b.socket, "channels orders-*")))
	c := dialGrip(t, r.URL+"/ws/?shop")
	c.send(`subscribe orders-7`)
	c.hear("subscribe orders-7")
	c.send("subscribe private")
	c.hear("subscribe private")
	testkit.Eventually(t, "the membership", func() bool {
		groups, _ := redis.Do("KEYS", "asgi:group:*").([]any)
		return strings.Contains(fmt.Sprint(groups), "asgi:group:orders-7")
	})
	if groups := fmt.Sprint(redis.Do("KEYS", "asgi:group:*")); strings.Contains(groups, "asgi:group:private") {
		t.Errorf("a channel outside channels joined a group of Channels: %s", groups)
	}
	python.SendMessage("private", map[string]any{"type": "order.changed", "state": "secret"})
	python.SendMessage("orders-7", map[string]any{"type": "order.changed", "state": "done", "total": 3})
	c.hear(`{"state": "done"}`)
	out, code := startDoctor(t, r, "1s", func() {
		python.SendMessage("orders-7", map[string]any{"type": "order.changed", "state": "done"})
		python.SendMessage("orders-7", map[string]any{"type": "order.seen"})
	})
	wantFinding(t, out, "ok", "type order.changed", "route /ws/", "orders-7")
	wantFinding(t, out, "WARN", "type order.seen", "route /ws/", "has no rule")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}
