package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func ids(page []hub.SessionInfo) (list []uint32) {
	for _, s := range page {
		list = append(list, s.ID)
	}
	return list
}

func TestSessionsByPage(t *testing.T) {
	h, _ := newHub(t)
	sockets := map[uint32]*socket{}
	for i := range 25 {
		socket := newSocket()
		user := relay.Identity{ID: "1", Key: fmt.Sprint(i % 5), Name: fmt.Sprint("user", i%5)}
		socket.waiting = i * i % 7 * 100
		s := h.Open(socket, user, netip.AddrFrom4([4]byte{10, 0, byte(i % 2), byte(i)}))
		subscribe(t, h, s, "all", fmt.Sprint("group-", i%3))
		page, total := h.Sessions(hub.SessionFilter{}, uint32(i), 1)
		if total != i+1 || len(page) != 1 {
			t.Fatalf("after the %dth: %d of %d", i, len(page), total)
		}
		sockets[page[0].ID] = socket
	}
	var all []uint32
	for after := uint32(0); ; after = all[len(all)-1] {
		page, total := h.Sessions(hub.SessionFilter{}, after, 7)
		if total != 25 {
			t.Fatalf("%d in all", total)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, ids(page)...)
	}
	if len(all) != 25 || !slices.IsSorted(all) {
		t.Errorf("page by page: %v", all)
	}

	for _, c := range []struct {
		filter hub.SessionFilter
		want   int
	}{
		{hub.SessionFilter{User: "3"}, 5},
		{hub.SessionFilter{User: "user3"}, 5},
		{hub.SessionFilter{User: "nobody"}, 0},
		{hub.SessionFilter{Group: "group-0"}, 9},
		{hub.SessionFilter{Group: "group-0", User: "3"}, 2},
		{hub.SessionFilter{Group: "group-9"}, 0},
		{hub.SessionFilter{ID: all[4]}, 1},
		{hub.SessionFilter{Address: netip.MustParsePrefix("10.0.1.0/24")}, 12},
		{hub.SessionFilter{Address: netip.MustParsePrefix("10.0.1.3/32")}, 1},
	} {
		page, total := h.Sessions(c.filter, 0, 100)
		if len(page) != c.want || total != c.want {
			t.Errorf("%+v: %d of %d, want %d", c.filter, len(page), total, c.want)
		}
		for _, s := range page {
			if !slices.Contains(s.Groups, "all") || s.Changing || time.Since(s.Opened) > time.Minute {
				t.Errorf("%+v", s)
			}
		}
	}

	page, total := h.SlowestSessions(hub.SessionFilter{}, 5)
	slowestFirst := func(a, b hub.SessionInfo) int { return b.Waiting - a.Waiting }
	if total != 25 || len(page) != 5 || page[0].Waiting != 400 || !slices.IsSortedFunc(page, slowestFirst) {
		t.Errorf("the slowest of %d: %+v", total, page)
	}
	if page, _ := h.SlowestSessions(hub.SessionFilter{}, 100); page[len(page)-1].Waiting == 0 {
		t.Error("a session without queued bytes is in the page")
	}

	if n := h.CloseSessions(hub.SessionFilter{User: "user2", Group: "group-2"}, 4000, "bye"); n != 2 {
		t.Errorf("%d closed, want 2", n)
	}
	closed := 0
	for _, s := range sockets {
		if code, _ := s.closed(); code == 4000 {
			closed++
		} else if code != 0 {
			t.Errorf("closed with %d", code)
		}
	}
	if closed != 2 {
		t.Errorf("%d sockets closed, want 2", closed)
	}
}

// A subscription that waits for the channel layer does not block an operator.
func TestSessionsDoesNotWaitForSubscriptions(t *testing.T) {
	h := hub.New(quiet)
	slow := &slowBroker{join: make(chan struct{})}
	if err := h.SetBroker(context.Background(), slow); err != nil {
		t.Fatal(err)
	}
	s, _ := open(h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Subscribe(context.Background(), relay.Groups("a"))
	}()
	testkit.Eventually(t, "the subscription waits", func() bool {
		page, _ := h.Sessions(hub.SessionFilter{}, 0, 1)
		return page[0].Changing && page[0].Groups == nil
	})
	close(slow.join)
	<-done
	if page, _ := h.Sessions(hub.SessionFilter{}, 0, 1); page[0].Changing || len(page[0].Groups) != 1 {
		t.Errorf("%+v", page[0])
	}
	_ = h.Close(cancelled())
}

type slowBroker struct{ join chan struct{} }

func (*slowBroker) Start(relay.Sink) error                  { return nil }
func (b *slowBroker) Join(context.Context, ...string) error { <-b.join; return nil }
func (*slowBroker) Leave(...string)                         {}
func (*slowBroker) Health() relay.Health                    { return relay.Health{OK: true} }
func (*slowBroker) Close(context.Context) error             { return nil }
func (*slowBroker) Publish(context.Context, string, []byte) (relay.Receipt, error) {
	return relay.Receipt{}, nil
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestGroupsByRate(t *testing.T) {
	h, b := newHub(t)
	for i := range 600 { // more groups than unlockEvery
		s, _ := open(h)
		groups := []string{"all"}
		for k := range 3 {
			groups = append(groups, fmt.Sprintf("group-%03d", (i*3+k)%900))
		}
		subscribe(t, h, s, groups...)
	}
	h.MeasureGroups(time.Second)
	for range 40 {
		publish(t, b, "group-007", "{}")
	}
	for range 20 {
		publish(t, b, "group-500", "{}")
	}
	h.MeasureGroups(2 * time.Second)
	page, total := h.Groups("", hub.GroupsByRate, "", 3)
	if total != 901 || len(page) != 3 || page[0] != (hub.GroupInfo{Group: "group-007", Subscribers: 2, Rate: 20}) ||
		page[1].Group != "group-500" || page[1].Rate != 10 || page[2].Rate != 0 {
		t.Errorf("%d: %+v", total, page)
	}
	page, _ = h.Groups("", hub.GroupsBySubscribers, "", 2)
	if page[0].Group != "all" || page[0].Subscribers != 600 || page[1].Group != "group-000" {
		t.Errorf("%+v", page)
	}
	var names []string
	for after := ""; ; after = names[len(names)-1] {
		page, total = h.Groups("group-", hub.GroupsByName, after, 250)
		if total != 900 {
			t.Fatalf("%d", total)
		}
		if len(page) == 0 {
			break
		}
		for _, g := range page {
			names = append(names, g.Group)
		}
	}
	if len(names) != 900 || !slices.IsSorted(names) {
		t.Errorf("page by page: %d", len(names))
	}
	h.MeasureGroups(time.Second)
	if page, _ = h.Groups("group-007", hub.GroupsByRate, "", 1); page[0].Rate != 0 {
		t.Errorf("a second later: %+v", page)
	}
}

// masking hides events with "secret": class 3 gets "***", other classes get nothing.
type masking struct{}

func mask(uint8) ([]byte, bool) { return []byte(`"***"`), true }

func (masking) Intercept(events []relay.Event) []relay.Event {
	for i := range events {
		if bytes.Contains(events[i].Text, []byte("secret")) {
			events[i].Redaction = &relay.Redaction{Classes: 1 << 3, Render: mask}
		}
	}
	return events
}

func (masking) Classify(context.Context, relay.Identity, string) (c relay.Classification, err error) {
	return c, nil
}

func TestTailShowsTheViewOfAClass(t *testing.T) {
	h, b := newHub(t)
	h.SetInterceptor(masking{})
	ctx := context.Background()
	raw := startTail(t, h, hub.TailOptions{Raw: true})
	plain := startTail(t, h, hub.TailOptions{})
	classed := startTail(t, h, hub.TailOptions{Class: 3})
	publish(t, b, "jobs-1", `"secret"`)
	publish(t, b, "jobs-2", `"elsewhere"`)
	publish(t, b, "jobs-1", `"open"`)
	for name, c := range map[string]struct {
		tail *hub.Tail
		want []string
	}{
		"raw":     {raw, []string{`"secret"`, `"open"`}},
		"class 0": {plain, []string{`"open"`}},
		"class 3": {classed, []string{`"***"`, `"open"`}},
	} {
		var got []string
		for len(got) < len(c.want) {
			events, dropped, err := c.tail.Next(ctx)
			if err != nil || dropped != 0 {
				t.Fatal(name, dropped, err)
			}
			for _, ev := range events {
				got = append(got, string(ev.Text))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}

	// Without a reader, the queue is bounded, further events are counted, and deliveries do not block.
	for i := range 2000 {
		publish(t, b, "jobs-1", fmt.Sprint(i))
	}
	events, dropped := raw.Take()
	if len(events) != 512 || dropped != 2000-512 || string(events[511].Text) != "511" {
		t.Errorf("%d events and %d dropped, want 512 and 1488", len(events), dropped)
	}
	large := string(bytes.Repeat([]byte("x"), 1<<20))
	for range 6 {
		publish(t, b, "jobs-1", large)
	}
	if events, dropped = raw.Take(); len(events) != 4 || dropped != 2 {
		t.Errorf("of six large events %d kept and %d dropped, want 4 and 2", len(events), dropped)
	}

	if got := h.Interested(); !slices.Equal(got, []string{"jobs-1"}) {
		t.Errorf("groups announced to peers: %q, want jobs-1", got)
	}
	for _, tail := range []*hub.Tail{raw, plain, classed} {
		tail.Close()
	}
	if got := h.Interested(); len(got) != 0 {
		t.Errorf("groups announced to peers after Close: %q, want none", got)
	}
	publish(t, b, "jobs-1", "1")
	plain.Take()
	if _, _, err := raw.Next(cancelled()); err == nil {
		t.Error("a closed tail has events")
	}
}

// A tail of a pattern sees the events of all groups that reach the node, joins none, and is gone after Close.
func TestTailOfAPattern(t *testing.T) {
	h, b := newHub(t)
	session, _ := open(h)
	subscribe(t, h, session, "jobs-1", "jobs-2", "other-1")
	tails := map[string]*hub.Tail{}
	for pattern, want := range map[string]string{"jobs-*": "jobs-1 jobs-2", "*-1": "jobs-1 other-1", "*": "jobs-1 jobs-2 other-1"} {
		for _, raw := range []bool{true, false} {
			tail, err := h.Tail(context.Background(), pattern, hub.TailOptions{Raw: raw})
			if err != nil {
				t.Fatal(err)
			}
			tails[fmt.Sprint(want, " raw ", raw)] = tail
		}
	}
	if got := h.Interested(); len(got) != 3 {
		t.Errorf("groups announced to peers: %q, want those of the client", got)
	}
	for _, group := range []string{"jobs-1", "jobs-2", "other-1"} {
		publish(t, b, group, "1")
	}
	for want, tail := range tails {
		var got []string
		for len(got) < len(strings.Fields(want))-2 {
			events, _, err := tail.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				got = append(got, ev.Group)
			}
		}
		if text := strings.Join(got, " "); !strings.HasPrefix(want, text+" raw") {
			t.Errorf("groups %q, want %s", text, want)
		}
		tail.Close()
		tail.Close()
	}
	publish(t, b, "jobs-1", "1")
	for want, tail := range tails {
		if events, _ := tail.Take(); len(events) > 0 {
			t.Errorf("%s: a closed tail has %d events", want, len(events))
		}
	}
	for _, group := range []string{"", "a b", "*/", "[*"} {
		if _, err := h.Tail(context.Background(), group, hub.TailOptions{}); err == nil {
			t.Errorf("%q is accepted as a group or pattern", group)
		}
	}
}

func TestTailIsNotCountedAsClient(t *testing.T) {
	for name, options := range map[string]hub.TailOptions{"raw": {Raw: true}, "as a client": {}} {
		t.Run(name, func(t *testing.T) {
			h, b := newHub(t)
			tail := startTail(t, h, options)
			defer tail.Close()
			session, _ := open(h)
			subscribe(t, h, session, "jobs-2")
			for range 20 {
				publish(t, b, "jobs-1", "1")
			}
			publish(t, b, "jobs-2", "1")
			h.MeasureGroups(2 * time.Second)
			want := []hub.GroupInfo{
				{Group: "jobs-1", Tails: 1, Rate: 10},
				{Group: "jobs-2", Subscribers: 1, Rate: 0.5},
			}
			if groups, _ := h.Groups("", hub.GroupsByName, "", 10); !slices.Equal(groups, want) {
				t.Errorf("groups %+v, want %+v", groups, want)
			}
			if groups, _ := h.Groups("", hub.GroupsByRate, "", 10); !slices.Equal(groups, want) {
				t.Errorf("by rate %+v, want %+v", groups, want)
			}
			if s := h.Stats(); s.Tailed != 20 || s.Unheard != 0 || s.Control != 0 || s.Fanned != 1 {
				t.Errorf("%d events for tails only, %d for no client, %d for nodes; want 20, 0, 0", s.Tailed,
					s.Unheard, s.Control)
			}
		})
	}
}

func startTail(t *testing.T, h *hub.Hub, o hub.TailOptions) *hub.Tail {
	t.Helper()
	tail, err := h.Tail(context.Background(), "jobs-1", o)
	if err != nil {
		t.Fatal(err)
	}
	return tail
}
