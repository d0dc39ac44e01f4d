package discovery_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

// notify sends what an AWX web node sends.
func notify(t *testing.T, c *pgx.Conn, payload string) {
	t.Helper()
	if _, err := c.Exec(context.Background(), "SELECT pg_notify('web_ws_heartbeat', $1)", payload); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresHeartbeats(t *testing.T) {
	d := peers.StartPostgres(t)
	c := d.Connect()
	if c == nil {
		t.Fatal("no connection")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, "LISTEN web_ws_heartbeat"); err != nil {
		t.Fatal(err)
	}
	node := func(name, ip string) *discovery.Postgres {
		return &discovery.Postgres{
			DSN: d.DSN, Hostname: name, IP: ip, Scheme: "http", Port: 8013, Every: 300 * time.Millisecond, Silence: 2 * time.Second, Log: quiet,
		}
	}
	a := run(t, node("ä", ""))
	// What task nodes of AWX hear, byte for byte.
	hear := func(want string) {
		t.Helper()
		for {
			n, err := c.WaitForNotification(ctx)
			if err != nil {
				t.Fatalf("%v while waiting for %s", err, want)
			}
			if n.Payload == want {
				return
			}
		}
	}
	hear(`{"hostname": "\u00e4", "ip": null, "action": "online"}`)
	b := run(t, node("b", "10.0.0.2"))
	hear(`{"hostname": "b", "ip": "10.0.0.2", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013")
	b.expect(t, "http://ä:8013")
	// A Python web node: with an address, then with another, then without a word.
	notify(t, c, `{"hostname": "awx-web-1", "ip": "10.0.0.7", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://10.0.0.7:8013")
	notify(t, c, `{"hostname": "awx-web-1", "ip": "fd00::7", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://[fd00::7]:8013")
	a.expect(t, "http://10.0.0.2:8013")
	// What is not sound is passed over.
	for _, junk := range []string{
		"", "{", `[]`, `{"hostname": null, "action": "online"}`, `{"hostname": "x/../y", "action": "online"}`,
		`{"hostname": "x@y", "ip": null, "action": "online"}`, `{"hostname": "z", "action": "dancing"}`, strings.Repeat("x", 7000),
	} {
		notify(t, c, junk)
	}
	notify(t, c, `{"hostname": "awx-web-2", "ip": null, "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://awx-web-2:8013")
	notify(t, c, `{"hostname": "awx-web-2", "ip": null, "action": "offline"}`)
	a.expect(t, "http://10.0.0.2:8013")
	b.stop()
	hear(`{"hostname": "b", "ip": "10.0.0.2", "action": "offline"}`)
	a.expect(t)

	// PostgreSQL dies and comes back: a goes on by itself.
	_ = c.Close(ctx)
	d.Kill()
	d.Restart()
	b = run(t, node("b", "10.0.0.2"))
	a.expect(t, "http://10.0.0.2:8013")
	b.expect(t, "http://ä:8013")
}
