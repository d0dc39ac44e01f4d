package backplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// dialAs opens a websocket to a node's endpoint with a secret header.
func dialAs(t *testing.T, n *node, path, header string, subprotocols ...string) (*websocket.Conn, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h := http.Header{}
	if header != "" {
		h.Set("secret", header)
	}
	conn, resp, err := websocket.Dial(ctx, n.server.URL+path, &websocket.DialOptions{HTTPHeader: h, Subprotocols: subprotocols})
	if err != nil {
		return nil, resp
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn, resp
}

func TestRefusedBeforeTheUpgrade(t *testing.T) {
	leakCheck(t)
	n := newNode(t, memory.NewLayer())
	log := n.start()
	now := time.Now()
	for _, path := range []string{"/websocket/broadcast/", "/websocket/broadcast", "/websocket/relay/", "/pre/fix/websocket/relay"} {
		for name, header := range map[string]string{
			"none":  "",
			"wrong": backplane.Header("another secret", now),
			"early": backplane.Header(secret, now.Add(-302*time.Second)),
			"late":  backplane.Header(secret, now.Add(310*time.Second)),
			"junk":  "let me in",
		} {
			conn, resp := dialAs(t, n, path, header, "edgerelay.v1")
			if conn != nil || resp == nil || resp.StatusCode != http.StatusForbidden {
				t.Fatalf("%s, header %s: %v", path, name, resp)
			}
			body := make([]byte, 256)
			size, _ := resp.Body.Read(body)
			if got := string(body[:size]); got != "Forbidden\n" || resp.Header.Get("Sec-Websocket-Protocol") != "" {
				t.Errorf("%s, header %s learns %q %v", path, name, got, resp.Header)
			}
		}
	}
	s := n.plane.Stats()
	for why, want := range map[backplane.Rejection]uint64{
		backplane.RejectedMissing: 4, backplane.RejectedSecret: 4, backplane.RejectedClock: 8, backplane.RejectedMalformed: 4,
	} {
		if s.Rejected[why] != want {
			t.Errorf("%s: %d refusals, want %d", string(why), s.Rejected[why], want)
		}
	}
	if skew := s.ClockSkew.Abs(); skew < 300*time.Second || skew > 320*time.Second {
		t.Errorf("clock skew %v", s.ClockSkew)
	}
	for _, why := range []backplane.Rejection{backplane.RejectedMissing, backplane.RejectedSecret, backplane.RejectedClock, backplane.RejectedMalformed} {
		if !strings.Contains(log.String(), why.Error()) {
			t.Errorf("the log does not say: %s", why.Error())
		}
	}
	if len(n.plane.Peers()) != 0 {
		t.Errorf("peers: %+v", n.plane.Peers())
	}
}

// A handshake that was recorded is of no use: the other side's nonce is another one.
func TestReplayIsRefused(t *testing.T) {
	leakCheck(t)
	n := newNode(t, memory.NewLayer())
	n.start()
	recorded := backplane.Header(secret, time.Now())
	for range 2 { // the same header twice: two Python nodes that dial in one second send the same
		conn, _ := dialAs(t, n, "/websocket/broadcast/", recorded, "edgerelay.v1")
		if conn == nil {
			t.Fatal("refused before the hello")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, _, err := conn.Read(ctx); err != nil {
			t.Fatal(err)
		}
		hello := `{"type": "hello", "node": "N", "layer": "L", "nonce": "recorded", "proof": "` + strings.Repeat("ab", 32) + `"}`
		if err := conn.Write(ctx, websocket.MessageText, []byte(hello)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("answered with %v", err)
		}
	}
	if got := n.plane.Stats().Rejected[backplane.RejectedProof]; got != 2 {
		t.Errorf("%d refusals", got)
	}
	if len(n.plane.Peers()) != 0 {
		t.Errorf("peers: %+v", n.plane.Peers())
	}
}

func TestDialectEdgeRelayRefusesPython(t *testing.T) {
	n := newNode(t, memory.NewLayer())
	n.start(func(s *backplane.Settings) { s.Dialect = backplane.EdgeRelay })
	if conn, resp := dialAs(t, n, "/websocket/relay/", backplane.Header(secret, time.Now())); conn != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%v", resp)
	}
}

// Secrets are exchanged node by node: at every step each node reaches each other one.
func TestSecretRotation(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	peers := peersOf(a.server.URL, b.server.URL)
	a.start(peers, func(s *backplane.Settings) { s.Secrets = backplane.Secrets{"new", "old"} })
	b.start(peers, func(s *backplane.Settings) { s.Secrets = backplane.Secrets{"old"} })
	a.awaitSources(1)
	b.awaitSources(1)
	c := b.client("jobs-summary")
	a.emit("jobs-summary", "1")
	c.exactly(t, set([]string{"1"}))
}

// What a peer sends that is not sound is counted and nothing else is lost.
func TestBadFramesFromPeers(t *testing.T) {
	leakCheck(t)
	n := newNode(t, memory.NewLayer())
	n.start(func(s *backplane.Settings) { s.FrameSize = 100_000 })
	c := n.client("jobs-summary")
	conn, _ := dialAs(t, n, "/websocket/relay/", backplane.Header(secret, time.Now()))
	if conn == nil {
		t.Fatal("refused")
	}
	go func() {
		for { // answers pings, and reads what is wanted
			if _, _, err := conn.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	frame := func(group, text string) []byte {
		b, err := json.Marshal(map[string]any{"group": group, "message": map[string]any{"type": "internal.message", "text": text}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := map[string]bool{}
	bad := [][]byte{
		[]byte("not json"), []byte("[]"), []byte(`{"group": 3}`), nil, []byte("\xff\xfe"),
		frame("no group!", "x"), frame("broadcast-group_send", `{"group": "jobs-summary", "message": "smuggled"}`),
		frame("jobs-summary", strings.Repeat("x", 200_000)),
		[]byte(`{"group": "jobs-summary", "message": {"type": "consumer.subscribe", "groups": ["a"]}}`),
		[]byte(strings.Repeat("[", 50_000)),
	}
	for i, b := range bad {
		if err := conn.Write(ctx, websocket.MessageText, b); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("good ", i)
		want[text] = true
		if err := conn.Write(ctx, websocket.MessageText, frame("jobs-summary", text)); err != nil {
			t.Fatal(err)
		}
	}
	c.exactly(t, want)
	s := n.plane.Stats()
	for why, count := range map[string]uint64{"broken_frame": 5, "invalid_utf8": 1, "invalid_group": 2, "too_large": 1, "unknown_type": 1} {
		if s.Dropped[why] != count {
			t.Errorf("%s: %d, want %d (%v)", why, s.Dropped[why], count, s.Dropped)
		}
	}
	for _, p := range n.plane.Peers() {
		if p.Faults != uint64(len(bad)) || p.State != backplane.StateConnected {
			t.Errorf("%+v", p)
		}
	}
}
