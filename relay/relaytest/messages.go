package relaytest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// messenger is a [relay.Broker] for messages of any type.
type messenger interface {
	relay.Broker
	relay.MessageReceiver
	relay.MessagePublisher
}

// runMessages tests the messages of any type, on a broker that has started.
func runMessages(t *testing.T, b relay.Broker, s *Sink) {
	m, ok := b.(messenger)
	if !ok {
		t.Log("the layer has no messages with a type")
		return
	}
	if err := m.Join(t.Context(), "typed"); err != nil {
		t.Fatal(err)
	}
	publish := func(kind, text, sender string) {
		t.Helper()
		message := relay.Message{
			Group: "typed", Type: kind, Text: []byte(text), Sender: sender, Binary: []string{"data"},
		}
		if r, err := m.PublishMessage(t.Context(), message); err != nil || r.Members != 1 {
			t.Fatal(r, err)
		}
	}
	for _, on := range []bool{false, true, false} {
		m.ReceiveMessages(on)
		before := len(s.Events())
		publish("chat.message", `{"n":1.50,"data":"AP8=","s":"ü","type":"x","edgerelay_sender":"y"}`, "node/1")
		publish("", `{"a":  1}`, "node/2")
		publish("", "end", "")
		want := []string{
			`chat.message node/1 {"type": "chat.message", "n": 1.5, "data": "AP8=", "s": "\u00fc"}`,
			` node/2 {"a":  1}`, "  end",
		}
		if !on {
			want = want[1:]
		}
		var got []string
		testkit.Eventually(t, "the last event", func() bool {
			got = nil
			for _, ev := range s.Events()[before:] {
				got = append(got, fmt.Sprintf("%s %s %s", ev.Type, ev.Sender, ev.Text))
			}
			return slices.Contains(got, "  end")
		})
		if !slices.Equal(got, want) {
			t.Errorf("messages on: %v\ngot  %q\nwant %q", on, got, want)
		}
	}
	for _, invalid := range []relay.Message{
		{Type: "t", Text: []byte(`[]`)},
		{Type: "t", Text: []byte(`{`)},
		{Type: "t", Text: []byte("{\"x\": \"\xff\"}")},
		{Type: "internal.message", Text: []byte(`{}`)},
		{Type: "consumer.unsubscribe", Text: []byte(`{}`)},
	} {
		invalid.Group = "typed"
		if _, err := m.PublishMessage(t.Context(), invalid); !errors.Is(err, relay.ErrInvalidMessage) {
			t.Errorf("published %s %q: %v", invalid.Type, invalid.Text, err)
		}
	}
	if _, err := m.PublishMessage(t.Context(), relay.Message{Group: "no group", Type: "t", Text: []byte(`{}`)}); err == nil {
		t.Error("published to an invalid group")
	}
}
