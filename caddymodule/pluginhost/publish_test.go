package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	layer "github.com/edgerelay/edgerelay/relay/layer/memory"
)

// slowLayer publishes a message when the test has received its text and sent the result.
type slowLayer struct {
	relay.Broker
	texts   chan string
	results chan error
}

func (l slowLayer) Publish(ctx context.Context, _ string, text []byte) (relay.Receipt, error) {
	l.texts <- string(text)
	select {
	case err := <-l.results:
		return relay.Receipt{}, err
	case <-ctx.Done():
		return relay.Receipt{}, ctx.Err()
	}
}

func (l slowLayer) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	return l.Publish(ctx, m.Group, m.Text)
}

// alarming starts a plugin that publishes the name and the payload of each alarm.
func (s *site) alarming() {
	s.t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "function.wasm"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(wasm)
	s.plugin.Groups, s.plugin.Publish = nil, []string{"alarms"}
	s.plugin.Grants = []string{"shared", "alarms"}
	s.plugin.Fetch = &Fetch{Addresses: []string{"https://example.com"}}
	s.start()
}

// An alarm ends when its messages are in the channel layer. When they do not get there, or the node stops before, the
// alarm has failed.
func TestAlarmEndsAfterItsMessages(t *testing.T) {
	s := newSite(t)
	s.alarming()
	slow := slowLayer{layer.NewLayer().Broker(), make(chan string), make(chan error)}
	if err := s.hub.SetBroker(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	alarm := func() { ended <- s.Alarm(context.Background(), "p", "name", []byte("payload")) }
	begin := func() {
		t.Helper()
		go alarm()
		if text := <-slow.texts; text != "namepayload" {
			t.Errorf("published %q", text)
		}
		select {
		case err := <-ended:
			t.Fatalf("the alarm ended before its message was published: %v", err)
		default:
		}
	}
	begin()
	slow.results <- nil
	if err := <-ended; err != nil {
		t.Error(err)
	}
	begin()
	failed := errors.New("the layer is down")
	slow.results <- failed
	if err := <-ended; !errors.Is(err, failed) {
		t.Errorf("the alarm ended with %v, without its message", err)
	}
	if got := s.Messages("p"); got.Published != 1 || got.Failed != 1 {
		t.Errorf("counts: %+v", got)
	}
	begin()
	s.stop()
	if err := <-ended; err == nil {
		t.Error("the alarm ended well, without its message")
	}
}

// The messages of an alarm follow those that the plugin has published before.
func TestAlarmKeepsTheOrder(t *testing.T) {
	s := newSite(t)
	s.alarming()
	slow := slowLayer{layer.NewLayer().Broker(), make(chan string), make(chan error)}
	if err := s.hub.SetBroker(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	s.enqueue("p", &plugins.Action{Group: "g", Type: "t", Payload: []byte("first")})
	s.enqueue("p", &plugins.Action{Group: "g", Type: "t", Payload: []byte("second")})
	ended := make(chan error, 1)
	go func() { ended <- s.Alarm(context.Background(), "p", "name", []byte("payload")) }()
	for _, want := range []string{"first", "second", "namepayload"} {
		if text := <-slow.texts; text != want {
			t.Errorf("published %q, want %q", text, want)
		}
		slow.results <- nil
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// fullLayer has full mailboxes.
type fullLayer struct{ relay.Broker }

func (fullLayer) Publish(context.Context, string, []byte) (relay.Receipt, error) {
	return relay.Receipt{Members: 3, OverCapacity: 2}, nil
}

func (l fullLayer) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	return l.Publish(ctx, m.Group, m.Text)
}

// Whoever publishes into full mailboxes learns of it at the node that publishes.
func TestMessagesForFullMailboxesAreCounted(t *testing.T) {
	s := newSite(t)
	var lines strings.Builder
	s.write(module(t, "seen"))
	s.start()
	s.log = slog.New(slog.NewTextHandler(&lines, nil))
	if err := s.hub.SetBroker(t.Context(), fullLayer{layer.NewLayer().Broker()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), "p", relay.Message{Group: "g", Text: []byte("x")}); err != nil {
		t.Error(err)
	}
	if got := s.Messages("p"); got != (MessageStats{Published: 1, MailboxFull: 2}) {
		t.Errorf("counts: %+v", got)
	}
	if !strings.Contains(lines.String(), "dropped by full mailboxes") || !strings.Contains(lines.String(), "count=2") {
		t.Errorf("log: %s", &lines)
	}
}
