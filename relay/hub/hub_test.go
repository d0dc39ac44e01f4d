package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func TestEventsReachTheirSubscribersOnly(t *testing.T) {
	h, emitter := newHub(t)
	type client struct {
		socket *socket
		groups []string
	}
	var clients []client
	for i := range 50 {
		session, s := open(h)
		groups := []string{fmt.Sprint("g-", i%7)}
		if i%3 == 0 {
			groups = append(groups, "all")
		}
		if i > 40 { // sequences that no other client gets
			groups = append(groups, fmt.Sprint("g-", (i+1)%7), fmt.Sprint("g-", (i+2)%7))
		}
		subscribe(t, h, session, groups...)
		clients = append(clients, client{s, groups})
	}
	type event struct{ group, text string }
	var published []event
	for i := range 2000 {
		ev := event{group: fmt.Sprint("g-", rand.N(8))} // g-7 has no clients
		if rand.N(5) == 0 {
			ev.group = "all"
		}
		ev.text = fmt.Sprintf("%s %d", ev.group, i)
		if i%300 == 0 {
			ev.text += string(make([]byte, 70_000)) // longer than a joined buffer
		}
		published = append(published, ev)
	}
	for rest := published; len(rest) > 0; { // single events and batches
		n := min(1+rand.N(3)*rand.N(300), len(rest))
		if n == 1 {
			publish(t, emitter, rest[0].group, rest[0].text)
		} else {
			var batch []relay.Event
			for _, ev := range rest[:n] {
				batch = append(batch, relay.Event{Group: ev.group, Text: []byte(ev.text)})
			}
			h.Deliver(batch)
		}
		rest = rest[n:]
	}
	for i, c := range clients {
		var want []string
		for _, ev := range published {
			if slices.Contains(c.groups, ev.group) {
				want = append(want, ev.text)
			}
		}
		testkit.Eventually(t, "all events", func() bool { return len(c.socket.got()) >= len(want) })
		if !slices.Equal(c.socket.got(), want) {
			t.Errorf("client %d: want the events of all its groups in the order of publishing", i)
		}
	}
	if s := h.Stats(); s.Unheard == 0 || s.Missed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSubscribeReplacesGroups(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	c := subscribe(t, h, session, "a", "b")
	if !slices.Equal(c.Joined, []string{"a", "b"}) || c.Left != nil {
		t.Errorf("%+v", c)
	}
	c = subscribe(t, h, session, "b", "c")
	if !slices.Equal(c.Joined, []string{"c"}) || !slices.Equal(c.Left, []string{"a"}) ||
		!slices.Equal(c.Current, []string{"b", "c"}) {
		t.Errorf("%+v", c)
	}
	publish(t, emitter, "a", "a")
	publish(t, emitter, "b", "b")
	testkit.Eventually(t, "the event of b", func() bool { return len(s.got()) > 0 })
	if got := s.got(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
	if c = subscribe(t, h, session); len(c.Left) != 2 || h.Stats().Groups != 0 {
		t.Errorf("%+v, %d groups", c, h.Stats().Groups)
	}
}

func TestTooManyGroupsChangeNothing(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.GroupsPerConnection = 2
	h.SetLimits(limits)
	session, _ := open(h)
	subscribe(t, h, session, "a", "b")
	_, err := session.Subscribe(context.Background(), relay.Groups("a", "b", "c"))
	if !errors.As(err, new(relay.TooManyGroupsError)) {
		t.Errorf("error %v", err)
	}
	if h.Stats().Groups != 2 {
		t.Errorf("%d groups", h.Stats().Groups)
	}
}

// Subscriptions change while events flow; useful with -race.
func TestNoEventAfterUnsubscribe(t *testing.T) {
	h, emitter := newHub(t)
	stop := make(chan struct{})
	var emitting, churning sync.WaitGroup
	for g := range 4 {
		emitting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					publish(t, emitter, fmt.Sprint("g-", g), fmt.Sprint("g-", g))
				}
			}
		})
	}
	for range 16 {
		churning.Go(func() {
			for range 50 {
				session, s := open(h)
				group := fmt.Sprint("g-", rand.N(4))
				subscribe(t, h, session, group)
				testkit.Eventually(t, "an event", func() bool { return len(s.got()) > 0 })
				subscribe(t, h, session)
				n := len(s.got())
				for _, text := range s.got() {
					if text != group {
						t.Errorf("got %q of another group", text)
					}
				}
				subscribe(t, h, session, "quiet")
				if len(s.got()) != n {
					t.Error("an event came after the group was left")
				}
				session.Close()
			}
		})
	}
	churning.Wait()
	close(stop)
	emitting.Wait()
	if s := h.Stats(); s.Sessions != 0 || s.Groups != 0 {
		t.Errorf("left behind: %d sessions, %d groups", s.Sessions, s.Groups)
	}
}

func TestInvalidTextIsDropped(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "bad \xff")
	publish(t, emitter, "g", "good")
	testkit.Eventually(t, "the good event", func() bool { return len(s.got()) == 1 })
	if h.Stats().Invalid != 1 || s.got()[0] != "good" {
		t.Errorf("%+v, %q", h.Stats(), s.got())
	}
}

func TestSetBrokerKeepsSessions(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "old layer")
	next := memory.NewLayer()
	if err := h.SetBroker(context.Background(), next.Broker()); err != nil {
		t.Fatal(err)
	}
	publish(t, emitter, "g", "not delivered")
	publish(t, next.Broker(), "g", "new layer")
	testkit.Eventually(t, "both events", func() bool { return len(s.got()) == 2 })
	if !slices.Equal(s.got(), []string{"old layer", "new layer"}) {
		t.Errorf("got %q", s.got())
	}
	if code, killed := s.closed(); code != 0 || killed {
		t.Error("the socket was closed")
	}
}

// witness is a backplane that records calls.
type witness struct {
	joined, left, published []string
	waited                  int
}

func (w *witness) Interest(joined, left []string) func(context.Context) {
	w.joined, w.left = append(w.joined, joined...), append(w.left, left...)
	return func(context.Context) { w.waited++ }
}

func (w *witness) Published(_ context.Context, m relay.Message) error {
	w.published = append(w.published, m.Group)
	return nil
}

func TestBackplaneIsToldOfClientsOnly(t *testing.T) {
	h, emitter := newHub(t)
	early, _ := open(h)
	subscribe(t, h, early, "early")
	w := &witness{}
	h.SetBackplane(w)
	var heard []string
	stop := h.Listen(context.Background(), "g", func(ev relay.Event) { heard = append(heard, string(ev.Text)) })
	publish(t, emitter, "g", "1")
	publish(t, emitter, "other", "2")
	if got := h.Stats().Groups; got != 1 {
		t.Errorf("%d groups have clients", got)
	}
	one, _ := open(h)
	two, _ := open(h)
	subscribe(t, h, one, "g", "early")
	subscribe(t, h, two, "g")
	subscribe(t, h, one)
	stop()
	stop()
	two.Close()
	publish(t, emitter, "g", "3")
	if !slices.Equal(heard, []string{"1"}) {
		t.Errorf("heard %q", heard)
	}
	// Listeners are not announced to peers; of clients, only the first and the last are.
	if !slices.Equal(w.joined, []string{"early", "g"}) || !slices.Equal(w.left, []string{"g"}) || w.waited != 1 {
		t.Errorf("joined %q, left %q, waited %d times", w.joined, w.left, w.waited)
	}
	_, err := h.Publish(context.Background(), "g", []byte("4"))
	if err != nil || !slices.Equal(w.published, []string{"g"}) {
		t.Errorf("published %q, %v", w.published, err)
	}
}

// doubler is an interceptor that drops dull events and doubles all others.
type doubler struct{}

func (doubler) Classify(context.Context, relay.Identity, string) (c relay.Classification, err error) {
	return c, nil
}

func (doubler) Intercept(events []relay.Event) []relay.Event {
	var out []relay.Event
	for _, ev := range events {
		if string(ev.Text) != "dull" {
			out = append(out, ev, ev)
		}
	}
	return out
}

func TestInterceptorChangesEvents(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	h.SetInterceptor(doubler{})
	publish(t, emitter, "g", "dull")
	publish(t, emitter, "g", "bright")
	h.SetInterceptor(nil)
	publish(t, emitter, "g", "dull")
	testkit.Eventually(t, "three events", func() bool { return len(s.got()) == 3 })
	if !slices.Equal(s.got(), []string{"bright", "bright", "dull"}) {
		t.Errorf("got %q", s.got())
	}
}

func TestValidGroup(t *testing.T) {
	for name, want := range map[string]bool{
		"jobs-status_changed": true, "A.b-9_": true,
		string(make([]byte, 5)): false, "": false, "a b": false, "ü": false,
		"a/b": false, "a!b": false, "a\n": false, "٣": false,
	} {
		if relay.ValidGroup(name) != want {
			t.Errorf("ValidGroup(%q) = %v", name, !want)
		}
		if err := relay.CheckGroup(name); (err == nil) != want {
			t.Errorf("CheckGroup(%q): %v", name, err)
		}
	}
	long := slices.Repeat([]byte("a"), 100)
	if relay.ValidGroup(string(long)) || !relay.ValidGroup(string(long[:99])) {
		t.Error("99 bytes are allowed, 100 are not")
	}
}

// The handlers of sockets may publish while the hub closes: that their clients have gone.
func TestCloseLetsHandlersPublish(t *testing.T) {
	h, _ := newHub(t)
	session, s := open(h)
	published := make(chan error, 1)
	go func() {
		for code := 0; code == 0; code, _ = s.closed() {
			runtime.Gosched()
		}
		_, err := h.PublishMessage(context.Background(), relay.Message{Group: "left", Text: []byte("x")})
		published <- err
		session.Close()
	}()
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
}
