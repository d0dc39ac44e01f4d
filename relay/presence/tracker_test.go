package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// quick are times for tests with a real clock.
var quick = Times{Lease: 2 * time.Second, Claim: 500 * time.Millisecond, Settle: 600 * time.Millisecond}

// quickMemory is longer than an announcement waits on a machine that is busy with other tests.
const quickMemory = 4 * time.Second

// site is some nodes of a channel layer, and a page that hears what they publish.
type site struct {
	t     testing.TB
	store func() Store // of a new node
	heard heard
}

func (s *site) node() *Tracker {
	t := New(Settings{
		Store: s.store(), Publish: s.heard.publish, TendInterval: 50 * time.Millisecond, Memory: quickMemory,
	})
	s.t.Cleanup(func() { _ = t.Close(context.Background()) })
	return t
}

func newMemorySite(t testing.TB) *site {
	m := NewMemory(quick, nil)
	return &site{t: t, store: func() Store { return m }}
}

func newRedisSite(t testing.TB, l *layer) *site {
	t.Helper()
	for shard := range l.Shards() { // Nothing waits for other nodes to restore their members.
		r := NewRedis(l, quick)
		if _, err := r.Register(context.Background(), shard, Registration{Node: "first"}); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(context.Background(), shard, "first"); err != nil {
			t.Fatal(err)
		}
		l.do(t, shard, "HSET", l.KeyPrefix(shard, "presence")+"meta", "at", 0)
	}
	return &site{t: t, store: func() Store { return NewRedis(l, quick) }}
}

func eachSite(t *testing.T, test func(t *testing.T, s *site)) {
	t.Run("memory", func(t *testing.T) { test(t, newMemorySite(t)) })
	t.Run("redis", func(t *testing.T) { test(t, newRedisSite(t, newLayer(t, peers.StartRedis(t).URL))) })
	t.Run("ring", func(t *testing.T) {
		test(t, newRedisSite(t, newLayer(t, peers.StartRedis(t).URL, peers.StartRedis(t).URL)))
	})
}

func (s *site) hears(want ...string) {
	s.t.Helper()
	testkit.Eventually(s.t, "the announcements are heard", func() error {
		if got := s.heard.all(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("heard %q, want %q", got, want)
		}
		return nil
	})
}

func members(t testing.TB, n *Tracker, group string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := n.List(ctx, group, 100)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(list.Count, ":")
	for _, u := range list.Users {
		text += " " + u.User
	}
	return text
}

func TestJoinAndLeaveAreAnnounced(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		a, b := s.node(), s.node()
		ann := Key{"room", `"ann"`}
		a.Enter(ann, 1, `{"name": "Ann"}`, usual)
		a.Enter(ann, 2, `{"name": "Ann"}`, usual)
		b.Enter(ann, 1, `{"name": "Ann"}`, usual)
		if got := members(t, b, "room"); got != `1: "ann"` {
			t.Errorf("members: got %s", got)
		}
		a.Leave(ann, 1)
		a.Leave(ann, 2)
		b.Leave(ann, 1)
		s.hears(
			`room presence.join {"user": "ann", "info": {"name": "Ann"}, "count": 1}`,
			`room presence.leave {"user": "ann", "info": {"name": "Ann"}, "count": 0}`,
		)
		if got := members(t, a, "room"); got != "0:" {
			t.Errorf("members: got %s", got)
		}
		testkit.Eventually(t, "no member is left", func() bool { return a.Stats().Members == 0 })
	})
}

func TestKilledNodesUsersLeave(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		a, b := s.node(), s.node()
		a.Enter(Key{"room", "1"}, 1, "", usual)
		a.Enter(Key{"room", "2"}, 2, "", usual)
		b.Enter(Key{"room", "2"}, 1, "", usual)
		members(t, a, "room")
		members(t, b, "room")
		a.kill()
		testkit.Eventually(t, "the user has left", func() bool { return members(t, b, "room") == "1: 2" })
		testkit.Eventually(t, "the leave is heard", func() bool {
			return strings.Contains(strings.Join(s.heard.all(), "\n"), `room presence.leave {"user": 1, "info": {}, "count": 1}`)
		})
		if all := strings.Join(s.heard.all(), "\n"); strings.Count(all, "presence.leave") != 1 {
			t.Errorf("heard %s", all)
		}
	})
}

func TestStoppedNodeReleasesItsUsers(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		a, b := s.node(), s.node()
		a.Enter(Key{"room", "1"}, 1, "", usual)
		a.Enter(Key{"room", "2"}, 2, "", usual)
		members(t, a, "room")
		testkit.Eventually(t, "joins", func() bool { return len(s.heard.all()) == 2 })
		if err := a.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.Enter(Key{"room", "2"}, 1, "", usual) // reconnects
		testkit.Eventually(t, "the other has left", func() bool { return len(s.heard.all()) == 3 })
		if got := s.heard.all()[2]; got != `room presence.leave {"user": 1, "info": {}, "count": 1}` {
			t.Errorf("heard %s", got)
		}
	})
}

// A store that is emptied makes no user come or go, and a user whose last connection has just ended still leaves.
func TestFlushIsNotNoticed(t *testing.T) {
	l := newLayer(t, peers.StartRedis(t).URL)
	s := newRedisSite(t, l)
	a, b := s.node(), s.node()
	for i := range 300 {
		a.Enter(Key{"room", fmt.Sprint(i)}, Connection(i), "", &Policy{Grace: time.Second, AnnounceUpTo: 1000})
	}
	b.Enter(Key{"room", "300"}, 1, "", usual)
	members(t, a, "room")
	members(t, b, "room")
	testkit.Eventually(t, "all joins are heard", func() bool { return len(s.heard.all()) == 301 })
	time.Sleep(quickMemory) // They are no newcomers.
	a.Leave(Key{"room", "7"}, 7)
	members(t, a, "room")
	l.flush(t, 0)
	a.Enter(Key{"room", "a"}, 1000, "", usual)
	testkit.Eventually(t, "members are restored", func() bool {
		return strings.HasPrefix(members(t, b, "room"), "301:")
	})
	testkit.Eventually(t, "the others are heard", func() error {
		if got := s.heard.all()[301:]; len(got) != 2 {
			return fmt.Errorf("heard %q", got)
		}
		return nil
	})
	text := strings.Join(s.heard.all()[301:], "\n")
	for _, want := range []string{`presence.leave {"user": 7,`, `presence.join {"user": a,`} {
		if !strings.Contains(text, want) {
			t.Errorf("heard %s, want %s", text, want)
		}
	}
}

// While the store cannot be reached, nothing blocks and nothing is announced; afterwards the store has the truth.
func TestPartition(t *testing.T) {
	server := peers.StartRedis(t)
	proxy := testkit.StartProxy(t, server.Addr)
	far, near := newLayer(t, "redis://"+proxy.Addr), newLayer(t, server.URL)
	stores := []Store{NewRedis(far, quick), NewRedis(near, quick)}
	s := &site{t: t, store: func() Store {
		next := stores[0]
		stores = stores[1:]
		return next
	}}
	a, b := s.node(), s.node()
	a.Enter(Key{"room", "1"}, 1, "", usual)
	a.Enter(Key{"room", "2"}, 2, "", usual)
	members(t, a, "room")
	testkit.Eventually(t, "joins", func() bool { return len(s.heard.all()) == 2 })
	proxy.Stall()
	proxy.Cut()
	a.Leave(Key{"room", "2"}, 2)
	a.Enter(Key{"room", "3"}, 3, "", usual)
	testkit.Eventually(t, "the node's users leave", func() bool { return len(s.heard.all()) == 4 })
	testkit.EventuallyWithin(t, 20*time.Second, "trouble is shown", func() bool { return a.Stats().Trouble != "" })
	if got := members(t, b, "room"); got != "0:" {
		t.Errorf("members: got %s", got)
	}
	proxy.Resume()
	testkit.EventuallyWithin(t, 20*time.Second, "members are back", func() bool {
		list, err := b.List(context.Background(), "room", 10)
		return err == nil && list.Count == 2
	})
	testkit.Eventually(t, "joins", func() error {
		if got := s.heard.all(); len(got) != 6 {
			return fmt.Errorf("heard %q", got)
		}
		return nil
	})
	if got := members(t, b, "room"); got != "2: 1 3" {
		t.Errorf("members: got %s", got)
	}
	if a.Stats().Trouble != "" {
		t.Errorf("trouble: %s", a.Stats().Trouble)
	}
}

func TestAnnouncementIsRepeatedAfterAnError(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		failures := 3
		s.heard.fail = func(relay.Message) error {
			if failures--; failures >= 0 {
				return errors.New("no channel layer")
			}
			return nil
		}
		a := s.node()
		a.Enter(Key{"room", "1"}, 1, "", usual)
		s.hears(`room presence.join {"user": 1, "info": {}, "count": 1}`)
	})
}

// TestModel takes nodes and their users through random events, and compares what pages have heard with the truth.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("memory ", seed), func(t *testing.T) { runModel(t, newMemorySite(t), nil, seed) })
		t.Run(fmt.Sprint("redis ", seed), func(t *testing.T) {
			l := newLayer(t, peers.StartRedis(t).URL)
			runModel(t, newRedisSite(t, l), func() { l.flush(t, 0) }, seed)
		})
	}
}

func runModel(t *testing.T, s *site, empty func(), seed uint64) {
	t.Parallel()
	random := rand.New(rand.NewPCG(seed, 2))
	policy := &Policy{Grace: 300 * time.Millisecond, AnnounceUpTo: 100}
	steady := s.node()
	for i := range 3 { // Users who are always there.
		steady.Enter(Key{"g0", fmt.Sprint(100 + i)}, Connection(1000+i), "", policy)
	}
	members(t, steady, "g0")
	time.Sleep(quickMemory) // They are no newcomers.
	type connection struct {
		key  Key
		node int
	}
	nodes := []*Tracker{s.node(), s.node()}
	open := map[Connection]connection{}
	var killed, emptied time.Time
	for c := Connection(1); c < 400; c++ {
		n := random.IntN(2)
		switch r := random.IntN(100); {
		case r < 50:
			key := Key{fmt.Sprint("g", random.IntN(2)), fmt.Sprint(random.IntN(5))}
			nodes[n].Enter(key, c, "", policy)
			open[c] = connection{key, n}
		case r < 92:
			for old, at := range open {
				nodes[at.node].Leave(at.key, old)
				delete(open, old)
				break
			}
		case r < 94 && time.Since(emptied) > quick.Settle: // A node that has not restored its members takes them along.
			nodes[n].kill()
			killed = time.Now()
			nodes[n] = s.node()
			for old, at := range open {
				if at.node == n {
					delete(open, old)
				}
			}
		case r < 98 && empty != nil: // Only the store knows what dead nodes owe.
			time.Sleep(time.Until(killed.Add(2*quick.Lease + 2*quick.Claim)))
			empty()
			emptied = time.Now()
		default:
			time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
		}
		time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
	}
	want := map[Key]bool{}
	for _, at := range open {
		want[at.key] = true
	}
	for i := range 3 {
		want[Key{"g0", fmt.Sprint(100 + i)}] = true
	}
	testkit.EventuallyWithin(t, 20*time.Second, "pages know the truth", func() error {
		return compareWithHeard(t, s, steady, want)
	})
	for i := range 3 {
		user := fmt.Sprintf(`"user": %d,`, 100+i)
		var lines []string
		for _, line := range s.heard.all() {
			if strings.Contains(line, user) {
				lines = append(lines, line)
			}
		}
		if len(lines) != 1 {
			t.Errorf("of a user who was always there: heard %q, want one join", lines)
		}
	}
}

// compareWithHeard compares the members with a page that only heard announcements, and with the store.
func compareWithHeard(t *testing.T, s *site, n *Tracker, want map[Key]bool) error {
	page := map[Key]bool{}
	s.heard.mu.Lock()
	for _, m := range s.heard.messages {
		var body struct{ User json.RawMessage }
		if err := json.Unmarshal(m.Text, &body); err != nil {
			t.Fatal(err)
		}
		key := Key{m.Group, string(body.User)}
		if m.Type == JoinType {
			page[key] = true
		} else {
			delete(page, key)
		}
	}
	s.heard.mu.Unlock()
	stored := map[Key]bool{}
	for _, group := range []string{"g0", "g1"} {
		list, err := n.List(context.Background(), group, 100)
		if err != nil {
			return err
		}
		for _, u := range list.Users {
			stored[Key{group, u.User}] = true
		}
	}
	if fmt.Sprint(page) != fmt.Sprint(want) || fmt.Sprint(stored) != fmt.Sprint(want) {
		return fmt.Errorf("page %v, store %v, want %v", page, stored, want)
	}
	return nil
}
