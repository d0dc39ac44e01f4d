package pluginhost

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
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

// hangingLayer does not answer a message with the text "stuck" before the test releases it, also not by a timeout.
type hangingLayer struct {
	relay.Broker
	texts    chan string
	released chan struct{}
	release  func()
}

func (l hangingLayer) Publish(_ context.Context, _ string, text []byte) (relay.Receipt, error) {
	l.texts <- string(text)
	if string(text) == "stuck" {
		<-l.released
	}
	return relay.Receipt{}, nil
}

func (l hangingLayer) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	return l.Publish(ctx, m.Group, m.Text)
}

// hanging starts the plugin of alarms with a layer in which a message of a plugin hangs already.
func (s *site) hanging(plugin string) hangingLayer {
	s.t.Helper()
	s.alarming()
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	s.t.Cleanup(release)
	l := hangingLayer{layer.NewLayer().Broker(), make(chan string, 2*maxPublishing), released, release}
	if err := s.hub.SetBroker(s.t.Context(), l); err != nil {
		s.t.Fatal(err)
	}
	s.enqueue(plugin, &plugins.Action{Group: "g", Type: "t", Payload: []byte("stuck")})
	if text := <-l.texts; text != "stuck" {
		s.t.Fatalf("published %q", text)
	}
	return l
}

// An alarm does not wait for the messages of other plugins, even if they fill the queue and the layer hangs.
func TestAlarmPassesTheMessagesOfOthers(t *testing.T) {
	s := newSite(t)
	l := s.hanging("other")
	for range maxPublishing + 1 {
		s.enqueue("other", &plugins.Action{Group: "g", Type: "t", Payload: []byte("stuck")})
	}
	s.enqueue("p", &plugins.Action{Group: "g", Type: "t", Payload: []byte("dropped")})
	if other, own := s.Messages("other"), s.Messages("p"); other.QueueFull != 1 || own.QueueFull != 1 {
		t.Errorf("counts: %+v, %+v", other, own)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Alarm(ctx, "p", "name", []byte("payload")); err != nil {
		t.Fatal(err)
	}
	if text := <-l.texts; text != "namepayload" {
		t.Errorf("published %q instead of the alarm's message", text)
	}
}

// An alarm fails if the earlier messages of its plugin take too long. It has published nothing by then, so its message
// comes once when it fires again.
func TestAlarmFailsBehindMessagesThatHang(t *testing.T) {
	s := newSite(t)
	l := s.hanging("p")
	s.enqueue("other", &plugins.Action{Group: "g", Type: "t", Payload: []byte("of another")})
	s.earlierTimeout = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := s.Alarm(ctx, "p", "name", []byte("payload"))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "earlier messages") {
		t.Fatalf("the alarm ended with: %v", err)
	}
	l.release()
	s.earlierTimeout = time.Hour
	if err := s.Alarm(ctx, "p", "name", []byte("payload")); err != nil {
		t.Error(err)
	}
	texts := map[string]int{<-l.texts: 1}
	texts[<-l.texts]++
	if texts["of another"] != 1 || texts["namepayload"] != 1 || len(l.texts) != 0 {
		t.Errorf("published %v, and %d more", texts, len(l.texts))
	}
}

// An alarm waits for a message behind those of another plugin as long as the layer takes messages. It would fail each
// time behind a plugin that keeps the queue long.
func TestAlarmWaitsBehindABusyPlugin(t *testing.T) {
	s := newSite(t)
	s.alarming()
	slow := slowLayer{layer.NewLayer().Broker(), make(chan string), make(chan error)}
	if err := s.hub.SetBroker(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	s.earlierTimeout = 500 * time.Millisecond
	const busy = 30
	for range busy {
		s.enqueue("other", &plugins.Action{Group: "g", Type: "t", Payload: []byte("busy")})
	}
	s.enqueue("p", &plugins.Action{Group: "g", Type: "t", Payload: []byte("earlier")})
	ended := make(chan error, 1)
	go func() { ended <- s.Alarm(context.Background(), "p", "name", []byte("payload")) }()
	for began := time.Now(); ; {
		select {
		case <-slow.texts:
			testkit.Pause(nil, s.earlierTimeout/10) // a message takes this time, and all of them three times the limit
			slow.results <- nil
		case err := <-ended:
			if took := time.Since(began); err != nil || took < busy*s.earlierTimeout/10 {
				t.Errorf("the alarm ended after %v with %v", took, err)
			}
			return
		}
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
