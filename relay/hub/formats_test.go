package hub_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// prefixed is a format whose frames begin with its name. It has no frame for the type "ignored", and binary frames for
// "blob".
type prefixed struct {
	changeText
	name    string
	renders atomic.Int64
}

func (p *prefixed) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	p.renders.Add(1)
	switch ev.Type {
	case "ignored":
		return dst, relay.NoFrame
	case "blob":
		return fmt.Appendf(dst, "%s blob", p.name), relay.BinaryFrame
	}
	return fmt.Appendf(dst, "%s %s %s %s", p.name, ev.Group, ev.Type, text), relay.TextFrame
}

// withHistory is a prefixed format for clients that begin with earlier events, without further frames.
type withHistory struct{ *prefixed }

func (withHistory) EncodeResumed(relay.Resumed) []byte               { return nil }
func (withHistory) EncodeGap(relay.Gap) []byte                       { return nil }
func (withHistory) EncodeWithheld(_ string, _ relay.Position) []byte { return nil }

// openAs opens a session of a client with a format.
func openAs(t testing.TB, h *hub.Hub, format relay.Format) (*hub.Session, *socket) {
	t.Helper()
	s := newSocket()
	reservation, err := h.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1", Key: "1"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return reservation.OpenAs(s, format), s
}

func send(t testing.TB, b relay.Broker, m relay.Message) {
	t.Helper()
	if m.Text == nil {
		m.Text = []byte("{}")
	}
	if _, err := b.(relay.MessagePublisher).PublishMessage(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

// expectTexts waits for frames and compares them.
func expectTexts(t testing.TB, s *socket, want ...string) {
	t.Helper()
	testkit.Eventually(t, "the frames", func() bool { return len(s.got()) >= len(want) })
	if got := s.got(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each client gets the events of all its groups in order and in its own form. Events with a type reach clients with a
// format only, and are rendered once for all of them.
func TestFormatsOfOneGroup(t *testing.T) {
	h, emitter := newHub(t)
	h.ReceiveMessages(true)
	a, b := &prefixed{name: "a"}, &prefixed{name: "b"}
	plain, p := open(h)
	subscribe(t, h, plain, "g1", "g2")
	var sockets []*socket
	for _, f := range []*prefixed{a, a, b, a} {
		session, s := openAs(t, h, f)
		subscribe(t, h, session, "g1", "g2")
		sockets = append(sockets, s)
	}
	publish(t, emitter, "g1", "one")
	send(t, emitter, relay.Message{Group: "g2", Type: "x.y", Text: []byte(`{"n": 1}`)})
	send(t, emitter, relay.Message{Group: "g1", Type: "ignored"})
	send(t, emitter, relay.Message{Group: "g1", Type: "blob"})
	publish(t, emitter, "g2", "two")
	for i, name := range []string{"a", "a", "b", "a"} {
		expectTexts(t, sockets[i], name+" g1  one", name+` g2 x.y {"type": "x.y", "n": 1}`, name+" blob", name+" g2  two")
	}
	expectTexts(t, p, "one", "two")
	if n := a.renders.Load(); n != 5 {
		t.Errorf("5 events were rendered %d times for three clients", n)
	}
}

// A batch of events keeps its order for a client with several groups, and the frames of binary events their kind.
func TestFormatsKeepTheOrderOfABatch(t *testing.T) {
	h, _ := newHub(t)
	session, s := openAs(t, h, &prefixed{name: "a"})
	subscribe(t, h, session, "g1", "g2")
	var events []relay.Event
	var want []string
	for i := range 300 {
		group, text := fmt.Sprint("g", 1+i%2), fmt.Sprint(i)
		events = append(events, relay.Event{Group: group, Type: "t", Text: []byte(text)})
		want = append(want, fmt.Sprintf("a %s t %s", group, text))
	}
	h.Deliver(events)
	expectTexts(t, s, want...)
}

// opcodes records the first bytes of frames.
type opcodes struct {
	discard
	first atomic.Int64
}

func (o *opcodes) Send(frames []byte, _ int) bool { o.first.Store(int64(frames[0])); return true }

func TestBinaryFrames(t *testing.T) {
	h, emitter := newHub(t)
	h.ReceiveMessages(true)
	o := &opcodes{}
	reservation, err := h.Admit(netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if err := reservation.Identify(relay.Identity{}); err != nil {
		t.Fatal(err)
	}
	session := reservation.OpenAs(o, &prefixed{name: "a"})
	subscribe(t, h, session, "g")
	send(t, emitter, relay.Message{Group: "g", Type: "blob"})
	testkit.Eventually(t, "a binary frame", func() bool { return o.first.Load() == 0x82 })
	publish(t, emitter, "g", "text")
	testkit.Eventually(t, "a text frame", func() bool { return o.first.Load() == 0x81 })
}

// The publisher of an event does not get it; all others do, on this node and on others.
func TestSenderIsLeftOut(t *testing.T) {
	h, emitter := newHub(t)
	h.ReceiveMessages(true)
	f := &prefixed{name: "a"}
	first, a := openAs(t, h, f)
	subscribe(t, h, first, "g")
	second, b := openAs(t, h, f)
	subscribe(t, h, second, "g")
	if first.Sender() == second.Sender() {
		t.Fatal("two clients are one sender")
	}
	for i, sender := range []string{first.Sender(), "", second.Sender(), "another.1", first.Sender() + "x"} {
		send(t, emitter, relay.Message{Group: "g", Type: "t", Sender: sender, Text: fmt.Appendf(nil, `{"n": %d}`, i)})
	}
	frame := func(n int) string { return fmt.Sprintf(`a g t {"type": "t", "n": %d}`, n) }
	expectTexts(t, a, frame(1), frame(2), frame(3), frame(4))
	expectTexts(t, b, frame(0), frame(1), frame(3), frame(4))
}

// A client with a format that opts in begins with the last events, and gets nothing else.
func TestFormatBeginsWithHistory(t *testing.T) {
	h, emitter, _ := historyHub(t)
	h.ReceiveMessages(true)
	positioned, p := openWithPositions(h)
	follow(t, positioned, relay.Groups("h-1")...)
	expectFrames(t, p, "current", "subscribed h-1 - 0")
	for i := range 3 {
		send(t, emitter, relay.Message{Group: "h-1", Type: "t", Text: fmt.Appendf(nil, `{"n": %d}`, i)})
	}
	publish(t, emitter, "h-1", "plain")
	frames := []string{`t {"type": "t", "n": 1}`, `t {"type": "t", "n": 2}`, " plain", `t {"type": "t", "n": 3}`}
	var sockets []*socket
	var sessions []*hub.Session
	formatA, formatB := withHistory{&prefixed{name: "a"}}, withHistory{&prefixed{name: "b"}}
	for _, format := range []relay.Format{formatA, formatA, formatB} {
		session, s := openAs(t, h, format)
		session.OptIn()
		change, err := session.Subscribe(t.Context(), []relay.Subscription{{Group: "h-1", Resume: &relay.Resume{Latest: 3}}})
		if err != nil {
			t.Fatal(err)
		}
		session.SendChange(change, func(relay.Change) []byte { return nil })
		sockets, sessions = append(sockets, s), append(sessions, session)
	}
	for _, s := range sockets {
		testkit.Eventually(t, "the replay", func() bool { return len(s.got()) == 3 })
	}
	send(t, emitter, relay.Message{Group: "h-1", Type: "t", Text: []byte(`{"n": 3}`)})
	for i, name := range []string{"a", "a", "b"} {
		var want []string
		for _, f := range frames {
			want = append(want, name+" h-1 "+f)
		}
		expectTexts(t, sockets[i], want...)
	}
	expectFrames(t, p, "current", "subscribed h-1 - 0", "event h-1 plain")
	for _, s := range sessions {
		s.Close()
	}
	if list, _ := h.Groups("", hub.GroupsByName, "", 10); len(list) != 1 || list[0].Subscribers != 1 {
		t.Errorf("groups %+v, want one with a client", list)
	}
}

// Rechecks leave granted subscriptions alone. A client with a format that loses its last group is disconnected.
func TestRecheckOfGrantedGroups(t *testing.T) {
	h, _ := newHub(t)
	f := &prefixed{name: "a"}
	authorizer := &revoking{}
	h.SetAuthorizer(authorizer, 20_000_000)
	granted, a := openAs(t, h, f)
	owned, b := openAs(t, h, f)
	if _, err := granted.Subscribe(t.Context(), []relay.Subscription{{Group: "g1", Granted: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := owned.Subscribe(t.Context(), []relay.Subscription{{Group: "g2"}}); err != nil {
		t.Fatal(err)
	}
	authorizer.revoked.Store(true)
	testkit.Eventually(t, "the end of the connection", func() bool { code, _ := b.closed(); return code == relay.ClosePolicy })
	if code, _ := a.closed(); code != 0 {
		t.Errorf("the client with a granted group was closed with %d", code)
	}
	if authorizer.asked.Load() {
		t.Error("the authorizer was asked about a granted group")
	}
}

// revoking is an authorizer that revokes all groups at once.
type revoking struct {
	relay.Open
	revoked, asked atomic.Bool
}

func (*revoking) Rechecks(string) bool { return true }

func (r *revoking) RecheckGroup(_ context.Context, _ relay.Identity, group string) error {
	if group == "g1" {
		r.asked.Store(true)
	}
	if r.revoked.Load() {
		return relay.ErrDenied
	}
	return nil
}

// follower is a format that records the subscriptions of its clients.
type follower struct {
	prefixed
	log []string
}

func (f *follower) Subscribed(s relay.Session, groups []string) {
	f.log = append(f.log, fmt.Sprint("+", s.Identity().ID, groups))
}

func (f *follower) Unsubscribed(s relay.Session, groups []string) {
	f.log = append(f.log, fmt.Sprint("-", s.Identity().ID, groups))
}

func TestFormatFollowsSubscriptions(t *testing.T) {
	h, _ := newHub(t)
	f := &follower{prefixed: prefixed{name: "f"}}
	s, _ := openAs(t, h, f)
	for _, groups := range [][]string{{"a", "b"}, {"b", "c"}, {"b", "c"}} {
		var subs []relay.Subscription
		for _, g := range groups {
			subs = append(subs, relay.Subscription{Group: g})
		}
		if _, err := s.Subscribe(context.Background(), subs); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s.Close()
	if want := []string{"+1[a b]", "-1[a]", "+1[c]", "-1[b c]"}; !slices.Equal(f.log, want) {
		t.Errorf("got %q, want %q", f.log, want)
	}
}
