package backplane

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func newTestLink(t *testing.T) *link {
	h := hub.New(slog.New(slog.DiscardHandler))
	b, err := New(h, Settings{Secrets: Secrets{"s"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(t.Context()) })
	l := &link{b: b, queue: newQueue(1 << 20), dialect: Relay, groupSet: groupSet{peerGroups: map[string]map[string]struct{}{}}}
	l.startProbing()
	return l
}

// Events without a text take memory, too.
func TestHeldEventsAreBounded(t *testing.T) {
	l := newTestLink(t)
	for range 200_000 {
		l.receiveEvent(relay.Event{Group: "a-1"})
	}
	if n := len(l.verdict.held); n == 0 || n > heldBytes/100 {
		t.Errorf("%d events are held", n)
	}
}

// As do channels that want a group which is wanted already.
func TestOriginsAreBounded(t *testing.T) {
	l := newTestLink(t)
	l.takeBacklog()
	l.addOrigin([]string{"a-1"}, strings.Repeat("x", maxIdentity+1))
	if len(l.backlog.Load().peerGroups) != 0 {
		t.Error("a name without end is taken")
	}
	for i := range maxPeerGroups + 10 {
		l.addOrigin([]string{"a-1"}, fmt.Sprint(i))
	}
	if n := len(l.backlog.Load().peerGroups["a-1"]); n != maxPeerGroups {
		t.Errorf("%d channels, want %d", n, maxPeerGroups)
	}
	l.removeOrigin([]string{"a-1"}, "1")
	l.addOrigin([]string{"a-1"}, "another")
	if n := len(l.backlog.Load().peerGroups["a-1"]); n != maxPeerGroups {
		t.Errorf("%d channels once there is room again, want %d", n, maxPeerGroups)
	}
}

// And what is to be said to a peer that does not listen.
func TestWhatIsSaidIsBounded(t *testing.T) {
	q := newQueue(1 << 20)
	over := 0
	q.overflow = func() { over++ }
	for range maxControlBytes/(1000+64) + 1 {
		q.pushControl(make([]byte, 1000))
	}
	if over != 1 {
		t.Errorf("called %d times", over)
	}
	q.next(nil, 0)
	if q.pushControl(nil); over != 1 {
		t.Error("what was taken still counts")
	}
}

// And what a peer says about groups that it was never asked to refill.
func TestAnswersAreBounded(t *testing.T) {
	l := newTestLink(t)
	l.receiveRefilled(message{Groups: make([]string, refillGroups+1)})
	l.receiveRefilled(message{Missing: []string{"a-1"}})
	if n := len(l.peer.answers); n != 0 {
		t.Errorf("%d answers that nobody sends are kept", n)
	}
	for range 2 * maxAnswers {
		l.receiveRefilled(message{Groups: []string{"a-1"}, Until: 1 << 63})
	}
	if n := len(l.peer.answers); n > maxAnswers {
		t.Errorf("%d answers are kept", n)
	}
}

// And the reads of the history for a peer that asks again and again.
func TestLaterRefillsEndEarlierOnes(t *testing.T) {
	l := newTestLink(t)
	l.ctx = t.Context()
	first := l.refillContext(true)
	second := l.refillContext(true)
	if first.Err() == nil || second.Err() != nil {
		t.Errorf("the first refills: %v, the second: %v", first.Err(), second.Err())
	}
	if l.refillContext(false) != second || second.Err() != nil {
		t.Error("another message of an interest ends the refills of the first one")
	}
	l.endRefills()
}

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"https://10.0.0.2:443": "https://10.0.0.2", "HTTPS://Node.Example/": "https://node.example", "http://a:80/x/": "http://a/x", "http://a:443": "http://a:443",
		"http://[fd00::1]:80": "http://[fd00::1]", "https://a:8443": "https://a:8443", "": "", "nonsense": "nonsense",
	} {
		if got := canonicalURL(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// A Python task node can silently forget a subscription, so the relay repeats all subscriptions until it
// unsubscribes.
func TestWishesAreRepeated(t *testing.T) {
	l := newTestLink(t)
	l.b.Interest([]string{"jobs-status_changed"}, nil)
	l.startInterest()
	first, _, _, _ := l.queue.next(nil, 0)
	l.repeatInterest()
	again, _, _, _ := l.queue.next(nil, 0)
	if len(first) != 1 || len(again) != 1 || string(first[0]) != string(again[0]) || !strings.Contains(string(first[0]), `"jobs-status_changed"`) {
		t.Errorf("told %q, and again %q", first, again)
	}
	l.stopInterest()
	l.queue.next(nil, 0)
	l.repeatInterest()
	if rest, _, _, _ := l.queue.next(nil, 0); len(rest) != 0 {
		t.Errorf("told %q afterwards", rest)
	}
}

// A peer that restarts again and again leaves a stream with each run. The newest wait for a link, and one with a link
// stays.
func TestStreamsAreBounded(t *testing.T) {
	b := newPlane(t)
	run := func(n int) *link {
		l := newLink(t.Context(), b, false)
		l.node = fmt.Sprint("run ", n)
		l.takeStream(message{})
		return l
	}
	run(0)
	for n := range maxStreams + 100 {
		l := run(n + 1)
		l.stream.Load().detach(l, false)
	}
	run(maxStreams + 101)
	if n := len(b.streams); n > maxStreams {
		t.Errorf("%d streams, want at most %d", n, maxStreams)
	}
	for name, want := range map[string]bool{
		"run 0": true, "run 1": false, fmt.Sprint("run ", maxStreams): true, fmt.Sprint("run ", maxStreams+100): true,
	} {
		if b.streams[name] != nil != want {
			t.Errorf("%s has a stream: %v", name, !want)
		}
	}
	for _, s := range b.allStreams() {
		if s.expiry != nil {
			s.expiry.Stop()
		}
	}
}
