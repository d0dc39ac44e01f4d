package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// flood sends handshakes with made-up logins, n at a time, until the test ends: each with another cookie, from the
// address that address returns. It returns once the API is busy with them.
func (a *authority) flood(t *testing.T, r *peers.Relay, n int, address func(i int) string) {
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); all.Wait() })
	site := strings.TrimPrefix(r.URL, "http://")
	for i := range n {
		all.Go(func() {
			for try := 0; ctx.Err() == nil; try++ {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", site)
				if err != nil {
					continue
				}
				release := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = fmt.Fprintf(conn,
					"GET /websocket/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
						"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Forwarded-For: %s\r\nCookie: awx_sessionid=stranger-%d-%d\r\n\r\n", site, address(i), i, try)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				release()
				_ = conn.Close()
				if err == nil && resp.StatusCode == http.StatusServiceUnavailable || err == nil &&
					resp.StatusCode == http.StatusTooManyRequests {
					select { // as the answer says
					case <-time.After(5 * time.Second):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	testkit.Eventually(t, "the flood to reach the API", func() error {
		if asked := a.count("/api/v2/me/"); asked < 100 {
			return fmt.Errorf("%d questions", asked)
		}
		return nil
	})
}

// soon is how long another client waits at most beside a flood: questions in flight, and what a busy machine adds.
const soon = 3 * time.Second

// Whoever floods the relay with handshakes delays its own: other clients are let in as ever.
func TestUnknownLoginsDelayNoOtherUser(t *testing.T) {
	const strangers = 600 // with 4 requests of 50 ms at once, a queue of 7.5 s
	for _, c := range []struct {
		name      string
		address   func(i int) string
		user      string // of the other client
		from      string
		confirmed bool // it has been here before
	}{
		{"one address, a new login", func(int) string { return "10.66.0.1" }, "user-7", "10.7.7.7", false},
		{
			"one IPv6 network, a new login", func(i int) string { return fmt.Sprintf("2001:db8:66:1::%x", i+1) },
			"user-7", "2001:db8:66:2::1", false,
		},
		{
			"many addresses, a known login", func(i int) string { return fmt.Sprintf("10.66.%d.%d", i>>8, i&255) },
			"user-7", "10.7.7.7", true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			api := newAuthority(t)
			r := api.site(t, "concurrency 4\n\t\t\tcache 100ms", "", behindProxy)
			api.set(func() { api.latency = 50 * time.Millisecond })
			if c.confirmed {
				enter(t, r, as(c.user, c.from))
			}
			api.flood(t, r, strangers, c.address)
			for range 3 {
				if _, took := enter(t, r, as(c.user, c.from)); took > soon {
					t.Errorf("the handshake took %v", took)
				}
			}
		})
	}
}

// One user's connections that subscribe to one new group after the other delay no other user's handshake or
// subscription.
func TestBusyUserDelaysNoOtherUser(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "concurrency 4", "", "")
	api.set(func() { api.latency = 50 * time.Millisecond })
	const connections = 60 // each asks 8 at once: 480 questions, 6 s
	for n := range connections {
		c, _ := enter(t, r, as("user-7", ""))
		var ids []string
		for i := range 100 {
			ids = append(ids, fmt.Sprint(1000+100*n+i))
		}
		if err := c.Send(`{"groups": {"job_events": [` + strings.Join(ids, ", ") + `]}, "xrftoken": "t"}`); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the API to be busy", func() error {
		if n := api.pending(); n < 4 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	c, took := enter(t, r, as("user-8", ""))
	if took > soon {
		t.Errorf("another user's handshake took %v", took)
	}
	began := time.Now()
	if got := askFor(t, c, `{"job_events": [1, 2], "jobs": ["summary"]}`); len(got) != 3 {
		t.Errorf("subscribed to %q", got)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("another user's subscription took %v", took)
	}
}

// Rechecks keep up with as many logins as the requests that may be in flight allow, and the metric says that they do.
func TestRechecksKeepUp(t *testing.T) {
	t.Parallel()
	const logins = 900
	api := newAuthority(t)
	// 225 requests a second, 34 at once; the old pace was 53
	r := api.site(t, "concurrency 64\n\t\t\trecheck 4s", "", "")
	site := strings.TrimPrefix(r.URL, "http://")
	ended := make(chan error, logins)
	var open sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range logins {
		open.Add(1)
		go func() {
			slots <- struct{}{}
			entered := sync.OnceFunc(func() { <-slots; open.Done() })
			defer entered()
			conn, err := net.Dial("tcp", site)
			if err != nil {
				ended <- err
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * patience))
			_, _ = fmt.Fprintf(conn,
				"GET /websocket/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
					"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: awx_sessionid=user-%d\r\n\r\n", site, i)
			in := bufio.NewReader(conn)
			if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				ended <- fmt.Errorf("%v, %w", resp, err)
				return
			}
			entered()
			for { // until the close frame
				var head [2]byte
				if _, err := io.ReadFull(in, head[:]); err != nil {
					ended <- err
					return
				}
				if _, err := io.CopyN(io.Discard, in, int64(head[1])); err != nil || head[0] == 0x88 {
					ended <- err
					return
				}
			}
		}()
	}
	open.Wait()
	if len(ended) > 0 {
		t.Fatal(<-ended)
	}
	api.set(func() {
		api.latency = 150 * time.Millisecond
		for i := range logins {
			api.ended[fmt.Sprint("user-", i)] = true
		}
	})
	began := time.Now()
	for range logins {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the last of %d websockets was closed %v after its login ended, with recheck 4s", logins, took)
	}
}

// When there is room for no more questions, a handshake is rejected at once, not after half a minute.
func TestFullQueueIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "concurrency 1\n\t\t\ttimeout 1m", "limits {\n\t\t\tpending_per_address 0\n\t\t}", behindProxy)
	api.set(func() { api.latency = time.Minute })
	const places = 1024 // for one address
	var wires []*wstest.Wire
	send := func(i int) *wstest.Wire {
		w, err := wstest.DialWire(t, r.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(w.Handshake("/websocket/", "X-Forwarded-For: 10.66.0.1",
			fmt.Sprint("Cookie: awx_sessionid=stranger-", i))); err != nil {
			t.Fatal(err)
		}
		return w
	}
	for i := range places + 10 {
		wires = append(wires, send(i))
	}
	testkit.Eventually(t, "the queue to be full", func() error {
		return atLeast(t, r, `edgerelay_auth_aborted_total{about="user",reason="busy"}`, 1)
	})
	began := time.Now()
	w := send(places + 10)
	resp, _, err := w.Response()
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v, %v; want 503 with Retry-After", resp, err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("answered after %v", took)
	}
	for _, w := range wires {
		w.Close()
	}
}

// A right that is withdrawn ends the subscription within a recheck interval; the client is told as after a change of
// its own.
func TestWithdrawnRightEndsTheSubscription(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "recheck 1s", "", "")
	c, _ := enter(t, r, as("user-7", ""))
	other, _ := enter(t, r, as("user-7", ""))
	askFor(t, c, `{"job_events": [42, 43], "jobs": ["summary"]}`)
	askFor(t, other, `{"job_events": [43]}`)
	api.set(func() { api.hidden["/api/v2/jobs/42/"] = true })
	text, err := c.Next(5 * time.Second)
	if want := `{"groups_current": ["job_events-43", "jobs-summary"], "groups_left": ["job_events-42"], "groups_joined": []}`; err != nil || text != want {
		t.Fatalf("told %q, %v; want %s", text, err, want)
	}
	publishHTTP(t, r, "job_events-42", `"secret"`)
	publishHTTP(t, r, "job_events-43", `"seen"`)
	for _, client := range []*wstest.Client{c, other} {
		if text, err := client.Next(patience); err != nil || text != `"seen"` {
			t.Errorf("got %q, %v; want what the user may still see", text, err)
		}
	}
	if n := metric(t, r, "edgerelay_subscriptions_revoked_total"); n != 1 {
		t.Errorf("%g subscriptions are counted", n)
	}
}

// While the API does not answer, a websocket stays open for recheck_grace and no longer, and no new client is let in.
func TestRecheckGrace(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "recheck 1s\n\t\t\trecheck_grace 3s", "", "")
	c, _ := enter(t, r, as("user-7", ""))
	askFor(t, c, `{"jobs": ["summary"]}`)
	api.set(func() { api.failing = true })
	testkit.Eventually(t, "the metric to say that a login is unverified", func() error {
		return atLeast(t, r, "edgerelay_sessions_unverified", 1)
	})
	publishHTTP(t, r, "jobs-summary", `"within the grace time"`)
	if text, err := c.Next(patience); err != nil || text != `"within the grace time"` {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := c.Next(patience); wstest.CloseCode(err) != 1013 {
		t.Errorf("got %q, %v; want a close with 1013", text, err)
	}
	_, resp, err := wstest.Dial(t, r.URL+"/websocket/", as("user-7", ""))
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a handshake: %v, %v; want 503", resp, err)
	}
	api.set(func() { api.failing = false })
	testkit.Eventually(t, "clients to be let in again", func() error {
		back, _, err := wstest.Dial(t, r.URL+"/websocket/", as("user-7", ""))
		if err == nil {
			_ = back.Close(1000)
		}
		return err
	})
}

// A page of AWX asks for the control group of user 1 whoever is logged in: that is not counted with the real denials.
// Groups of kinds that AWX does not have are everybody's unless the configuration says otherwise.
func TestOtherGroups(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "", "", "")
	c, _ := enter(t, r, as("user-7", ""))
	const page = `{"groups": {"jobs": ["status_changed"], "control": ["limit_reached_1"], "orders": [17]}, "xrftoken": "t"}`
	ask := func(c *wstest.Client) (frames []string) {
		if err := c.Send(page); err != nil {
			t.Fatal(err)
		}
		for {
			text, err := c.Next(patience)
			if err != nil {
				t.Fatal(err)
			}
			if frames = append(frames, text); strings.Contains(text, "groups_current") {
				return frames
			}
		}
	}
	denied := `{"error": "access denied to channel control for resource id limit_reached_1"}`
	if got := ask(c); len(got) != 2 || got[0] != denied ||
		!strings.Contains(got[1], `"groups_current": ["jobs-status_changed", "orders-17"]`) {
		t.Errorf("answered %q", got)
	}
	if err := errors.Join(atLeast(t, r, `edgerelay_subscriptions_total{result="other_user"}`, 1),
		atLeast(t, r, `edgerelay_subscriptions_total{result="allowed"}`, 2)); err != nil {
		t.Error(err)
	}
	if n := metric(t, r, `edgerelay_subscriptions_total{result="denied"}`); n != 0 {
		t.Errorf("%g denials are counted", n)
	}
	strict := api.site(t, "other_groups deny", "", "")
	c, _ = enter(t, strict, as("user-7", ""))
	if got := ask(c); len(got) != 3 || !strings.Contains(got[2], `"groups_current": ["jobs-status_changed"]`) {
		t.Errorf("with other_groups deny: answered %q", got)
	}
}

// auth caddy closes a websocket when the login ends, as far as Caddy can tell: after a time, or when a placeholder
// says.
func TestAuthCaddyThatEnds(t *testing.T) {
	t.Parallel()
	site := func(settings string) *peers.Relay {
		return peers.StartRelay(t,
			"{\n\tadmin {$ADMIN}\n\tedgerelay {\n\t\tauth caddy {\n\t\t\t"+settings+"\n\t\t}\n\t}\n}\n"+
				"{$SITE} {\n\tmap {header.X-User} {http.auth.user.id} {\n\t\t~(.+) \"${1}\"\n\t}\n\tedgerelay\n}")
	}
	farewell := func(c *wstest.Client) {
		t.Helper()
		if text, err := c.Next(patience); err != nil || text != `{"close": true}` {
			t.Errorf("told %q, %v", text, err)
		}
		if _, err := c.Next(patience); wstest.CloseCode(err) != 1000 {
			t.Errorf("closed with %v", err)
		}
	}
	r := site("lifetime 1s")
	c, _ := enter(t, r, http.Header{"X-User": {"alice"}})
	began := time.Now()
	if text, err := c.Next(patience); wstest.CloseCode(err) != 1012 || time.Since(began) < 500*time.Millisecond {
		t.Errorf("after %v: %q, %v; want a close with 1012, so that the client is authenticated again",
			time.Since(began), text, err)
	}
	enter(t, r, http.Header{"X-User": {"alice"}})

	r = site("lifetime 1h\n\t\t\texpires {http.request.header.X-Until}")
	for _, write := range []func(time.Time) string{
		func(at time.Time) string { return fmt.Sprint(at.Unix()) },
		func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) },
	} {
		at := time.Now().Add(2 * time.Second)
		c, _ := enter(t, r, http.Header{"X-User": {"alice"}, "X-Until": {write(at)}})
		farewell(c)
		if early := time.Until(at.Truncate(time.Second)); early > 0 {
			t.Errorf("%s: closed %v before its time", write(at), early)
		}
	}
	past, _, err := wstest.Dial(t, r.URL+"/websocket/", http.Header{"X-User": {"alice"}, "X-Until": {"1700000000"}})
	if err != nil {
		t.Fatal(err)
	}
	farewell(past)
	for _, until := range []string{"", "soon", "1700000000000", "-1", "NaN", "1e300"} {
		_, resp, err := wstest.Dial(t, r.URL+"/websocket/", http.Header{"X-User": {"alice"}, "X-Until": {until}})
		if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%q: %v, %v; want 503", until, resp, err)
		}
	}
}
