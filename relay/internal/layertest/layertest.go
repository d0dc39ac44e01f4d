// Package layertest holds the common parts of tests of several channel layers.
package layertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// Quiet is a logger that discards everything.
var Quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// LossSink is a [relaytest.Sink] that records losses.
type LossSink struct {
	relaytest.Sink
	mu     sync.Mutex
	losses []relay.Loss
}

// Lost implements [relay.LossSink].
func (s *LossSink) Lost(l relay.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = append(s.losses, l)
}

// Of returns the losses with one cause.
func (s *LossSink) Of(cause relay.LossCause) (losses []relay.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.losses {
		if l.Cause == cause {
			losses = append(losses, l)
		}
	}
	return losses
}

func (s *LossSink) eventsOf(group string) (events []relay.Event) {
	for _, ev := range s.Events() {
		if ev.Group == group {
			events = append(events, ev)
		}
	}
	return events
}

// CloseBroker closes a broker whose server may not answer.
func CloseBroker(b relay.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_ = b.Close(ctx)
}

// ExchangeWithPython starts b and has b and a layer of Python send to each other.
func ExchangeWithPython(t *testing.T, class string, config map[string]any, b relay.Broker) {
	t.Helper()
	sink := &relaytest.Sink{}
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseBroker(b) })
	// These groups lie on all hosts of a ring of three.
	groups := []string{"jobs-status_changed", "job_events-1", "job_events-2", "job_events-3", "job_events-4"}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, groups...); err != nil {
		t.Fatal(err, b.Health().Detail)
	}
	python := peers.StartLayer(t, class, config)
	for _, g := range groups {
		text := fmt.Sprintf(`{"group": %q, "s": "\u001b[0;32mök <&>"}`, g)
		python.Send(peers.Event{Group: g, Text: text})
		testkit.Eventually(t, "the event of Python for "+g, func() bool { return len(sink.Texts(g)) == 1 })
		if got := sink.Texts(g)[0]; got != text {
			t.Errorf("got %s, want %s", got, text)
		}
	}
	python.Join("to.python-1")
	text := `{"text": "\u001b ü"}`
	testkit.Eventually(t, "Python to be a member", func() bool {
		r, err := b.Publish(ctx, "to.python-1", []byte(text))
		return err == nil && r.Members == 1
	})
	var got struct{ Type, Text string }
	err := json.Unmarshal(python.Receive(testkit.Patience), &got)
	if err != nil || got.Text != text || got.Type != "internal.message" {
		t.Errorf("Python got %+v, %v; want the text %s", got, err, text)
	}
	if h := b.Health(); !h.OK || h.Undecodable > 0 {
		t.Errorf("health: %+v", h)
	}
}

// ExchangeMessagesWithPython starts b and has b and a layer of Python send messages of any type to each other.
func ExchangeMessagesWithPython(t *testing.T, class string, config map[string]any, b interface {
	relay.Broker
	relay.MessageReceiver
	relay.MessagePublisher
},
) {
	t.Helper()
	sink := &LossSink{}
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseBroker(b) })
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, "chat_1"); err != nil {
		t.Fatal(err, b.Health().Detail)
	}
	python := peers.StartLayer(t, class, config)

	python.SendLiteral("chat_1", `{"type": "chat.message", "n": 0}`)
	python.Send(peers.Event{Group: "chat_1", Text: "marker"})
	testkit.Eventually(t, "the marker", func() bool { return len(sink.Texts("chat_1")) == 1 })
	if got := sink.Texts("chat_1")[0]; got != "marker" || b.Health().Ignored != 1 {
		t.Errorf("while messages are off: got %s, %d ignored", got, b.Health().Ignored)
	}
	b.ReceiveMessages(true)
	bytes, wantBytes, notFinite, wantNotFinite := "", "", "", ""
	if config["serializer_format"] != "json" {
		bytes, wantBytes = `, "data": b"\x00\xff"`, `, "data": "AP8="`
		notFinite, wantNotFinite = `, nan, -inf`, `, NaN, -Infinity`
	}
	python.SendLiteral("chat_1", `{"type": "chat.message", "message": "ü \U0001f600 \x1b", "n": [1, 1.0, 2**64-1, -2**63`+
		notFinite+`], "o": {"a": None, "b": True}`+bytes+`, "edgerelay_sender": "node/1"}`)
	testkit.Eventually(t, "the message of Python", func() bool { return len(sink.Texts("chat_1")) == 2 })
	ev := sink.eventsOf("chat_1")[1]
	want := `{"type": "chat.message", "message": "\u00fc \ud83d\ude00 \u001b", "n": [1, 1.0, 18446744073709551615, ` +
		`-9223372036854775808` + wantNotFinite + `], "o": {"a": null, "b": true}` + wantBytes + `}`
	if string(ev.Text) != want || ev.Type != "chat.message" || ev.Sender != "node/1" {
		t.Errorf("got %+v\n%s, want\n%s", ev, ev.Text, want)
	}

	python.Join("chat_2")
	m := relay.Message{
		Group: "chat_2", Type: "chat.message", Sender: "node/2", Binary: []string{"data"},
		Text: []byte(`{"message": "ü", "data": "AP8=", "n": [1, 1.0]}`),
	}
	testkit.Eventually(t, "Python to be a member", func() bool {
		r, err := b.PublishMessage(ctx, m)
		return err == nil && r.Members == 1
	})
	data := `{"base64": "AP8="}`
	if config["serializer_format"] == "json" {
		data = `"AP8="`
	}
	want = `{"type": "chat.message", "message": "\u00fc", "data": ` + data + `, "n": [1, 1.0], "edgerelay_sender": "node/2"}`
	if got := string(python.Receive(testkit.Patience)); got != want {
		t.Errorf("Python got  %s\nwant %s", got, want)
	}

	m.Group = "chat_1"
	if _, err := b.PublishMessage(ctx, m); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the node's own message", func() bool { return len(sink.Texts("chat_1")) == 3 })
	ev = sink.eventsOf("chat_1")[2]
	want = `{"type": "chat.message", "message": "\u00fc", "data": "AP8=", "n": [1, 1.0]}`
	if string(ev.Text) != want || ev.Type != "chat.message" || ev.Sender != "node/2" {
		t.Errorf("got %+v\n%s, want\n%s", ev, ev.Text, want)
	}

	if config["serializer_format"] != "json" {
		python.SendLiteral("chat_1", `{"type": "chat.message", "at": __import__("msgpack").Timestamp(1)}`)
		ExpectLoss(t, sink, relay.LossUndecodable, false, "chat_1")
		if h := b.Health(); !h.OK || h.Undecodable != 1 {
			t.Errorf("health: %+v", h)
		}
	}
}

// ExpectLoss waits for a loss with a cause, and compares the groups of the first one.
func ExpectLoss(t testing.TB, sink *LossSink, cause relay.LossCause, all bool, groups ...string) {
	t.Helper()
	testkit.Eventually(t, "a loss: "+cause.String(), func() bool { return len(sink.Of(cause)) > 0 })
	l := sink.Of(cause)[0]
	if l.All != all || fmt.Sprint(l.Groups) != fmt.Sprint(groups) {
		t.Errorf("%s: all %v, groups %q; want all %v, groups %q", cause, l.All, l.Groups, all, groups)
	}
}

// TestLateJoin has a Join time out while the server is away, and expects a loss once the group is joined.
func TestLateJoin(t *testing.T, server *peers.Redis, b relay.Broker) {
	t.Helper()
	sink := &LossSink{}
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	defer CloseBroker(b)
	server.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := b.Join(ctx, "late"); err == nil {
		t.Fatal("joined without Redis")
	}
	if losses := sink.Of(relay.LossLateJoin); len(losses) > 0 {
		t.Fatalf("reported before the group was joined: %+v", losses)
	}
	server.Restart()
	ExpectLoss(t, sink, relay.LossLateJoin, false, "late")
}
