package presence

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

var slow = &Policy{Grace: 15 * time.Second, AnnounceUpTo: 100}

func TestUserOnTwoNodesCountsOnce(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		check(t, "first", kinds(a.enterAcknowledged(`1`)), "j1=1 ")
		check(t, "second", kinds(b.enterAcknowledged(`1`)), "")
		check(t, "another", kinds(b.enterAcknowledged(`"ann"`)), `j"ann"=2 `)
		list, err := s.List(context.Background(), "room", 10)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "list", list, Members{[]Member{{"1", `{"name": "x y"}`}, {`"ann"`, `{"name": "x y"}`}}, 2})
		a.release(`1`)
		c.advance(time.Minute / 2)
		check(t, "still on b", kinds(b.tendAll()), "")
		b.release(`1`)
		c.advance(14 * time.Second)
		check(t, "in the grace period", kinds(b.tendAll()), "")
		check(t, "members", count(t, s), 2)
		c.advance(time.Second)
		check(t, "after the grace period", kinds(b.tendAll()), "l1=1 ")
		check(t, "again", kinds(b.tendAll()), "")
	})
}

func TestReconnectIsNotNoticed(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		a.acknowledge(a.enter(`1`, slow).Announcements[0])
		a.release(`1`)
		c.advance(14 * time.Second)
		check(t, "reconnect", kinds(b.enter(`1`, slow).Announcements), "")
		c.advance(14 * time.Second)
		check(t, "later", kinds(append(a.tendAll(), b.tendAll()...)), "")
	})
}

func TestDeadNodesUsersLeaveOnce(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b, third := newStoreNode(t, s, "a"), newStoreNode(t, s, "b"), newStoreNode(t, s, "c")
		for _, user := range []string{"1", "2"} {
			a.acknowledge(a.enter(user, slow).Announcements[0])
		}
		b.enter("2", slow)
		told := ""
		for range 40 { // a is dead
			c.advance(time.Second)
			for _, n := range []*storeNode{b, third} {
				for _, a := range n.tendAll() {
					told += kinds([]Announcement{a})
					n.acknowledge(a)
				}
			}
		}
		check(t, "told", told, "l1=1 ")
		check(t, "dead node", a.enter("3", slow).Known, false)
		a.register()
		check(t, "returns", kinds(a.enter("1", slow).Announcements), "j1=2 ")
	})
}

// A step of the store's clock ends no lease.
func TestClockStep(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		a.enter("1", slow)
		c.advance(time.Hour)
		for range 10 {
			check(t, "dead", b.tend().Dead, nil)
			check(t, "known", a.tend().Known, true)
			c.advance(time.Second)
		}
	})
}

func TestAnnouncementOfDeadNodeIsClaimed(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		b.enter("1", slow)
		a.enter("1", slow)
		b.release("1")
		told := ""
		for range 12 {
			c.advance(time.Second)
			told += kinds(a.tendAll())
		}
		check(t, "told", told, "j1=1 ")
		c.advance(time.Second)
		check(t, "still claimed", kinds(b.tendAll()), "")
	})
}

// Of two nodes that publish a leave and a join at the same time, the last message tells the truth.
func TestLastAnnouncementIsTrue(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		a.acknowledge(a.enter("1", slow).Announcements[0])
		a.release("1")
		c.advance(15 * time.Second)
		left := a.tendAll()
		check(t, "left", kinds(left), "l1=0 ")
		joined := b.enter("1", slow).Announcements // published before the leave
		check(t, "joined", kinds(joined), "j1=1 ")
		check(t, "after the join", kinds(b.acknowledge(joined[0])), "")
		again := a.acknowledge(left[0])
		check(t, "after the leave", kinds(again), "j1=1 ")
		check(t, "at the end", kinds(a.acknowledge(again[0])), "")
		c.advance(time.Minute)
		check(t, "unclaimed", len(b.tend().Unclaimed), 0)
	})
}

func TestLargeGroupsAnnounceNumbers(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, _ func()) {
		a, p := newStoreNode(t, s, "a"), &Policy{Grace: 0, AnnounceUpTo: 2}
		check(t, "small", kinds(a.enter("1", p).Announcements)+kinds(a.enter("2", p).Announcements), "j1=1 j2=2 ")
		check(t, "large", kinds(a.enter("3", p).Announcements)+kinds(a.enter("4", p).Announcements), "")
		c.advance(time.Second)
		told := a.tendAll()
		check(t, "count", kinds(told), "c=4 ")
		a.enter("5", p)
		check(t, "no second count", kinds(a.tendAll()), "")
		a.acknowledge(told[0])
		c.advance(time.Second)
		check(t, "next count", kinds(a.tendAll()), "c=5 ")
		for _, user := range []string{"1", "2", "3"} {
			a.release(user)
		}
		a.tendAll()
		check(t, "members", count(t, s), 2)
		a.release("4")
		check(t, "small again", kinds(a.tendAll()), "l4=1 ")
	})
}

func TestEmptiedStore(t *testing.T) {
	eachStore(t, Times{}, func(t *testing.T, s Store, c *clock, empty func()) {
		a, b := newStoreNode(t, s, "a"), newStoreNode(t, s, "b")
		a.acknowledge(a.enter("1", slow).Announcements[0])
		b.acknowledge(b.enter("2", slow).Announcements[0])
		empty()
		check(t, "b is unknown", b.enter("1", slow).Known, false)
		check(t, "b's registration", b.register().Emptied, true)
		check(t, "b", kinds(b.enter("1", slow).Announcements), "") // new for b, and not restored by a yet
		b.change("b", Change{Op: OpRestore, Key: Key{"room", "2"}, Policy: slow})
		check(t, "a is unknown", a.tend().Known, false)
		a.register()
		a.change("a", Change{Op: OpRestore, Key: Key{"room", "1"}, Policy: slow})
		told := ""
		for range 20 {
			c.advance(time.Second)
			told += kinds(a.tendAll()) + kinds(b.tendAll())
		}
		check(t, "told", told, "")
		check(t, "members", count(t, s), 2)
	})
}

func TestCallsOfWebhook(t *testing.T) {
	eachStore(t, Times{QueueMax: 5, Lease: 6 * time.Second}, func(t *testing.T, s Store, c *clock, _ func()) {
		a := newStoreNode(t, s, "a")
		all := &Policy{Webhook: "h1", WebhookUsers: true, AnnounceUpTo: 1}
		a.enter("1", all)
		a.enter("2", all)
		a.release("1")
		a.release("2")
		a.tendAll()
		take := func(node string) (text string, calls []Call) {
			calls, err := s.TakeCalls(context.Background(), 0, node, "h1", 100)
			if err != nil {
				t.Fatal(err)
			}
			ids := map[string]bool{}
			for _, call := range calls {
				text += fmt.Sprintf("%s %s=%d ", call.Type, call.Group, call.Count)
				ids[call.ID] = true
			}
			check(t, "different ids", len(ids), len(calls))
			return text, calls
		}
		// The first of six is dropped.
		text, calls := take("a")
		check(t, "calls", text, "joined room=1 joined room=2 left room=1 left room=0 vacated room=0 ")
		other, _ := take("b")
		check(t, "calls for another node", other, "")
		if err := s.DeleteCalls(context.Background(), 0, "h1", calls[:3]); err != nil {
			t.Fatal(err)
		}
		text, again := take("a")
		check(t, "rest", text, "left room=0 vacated room=0 ")
		check(t, "the same", again, calls[3:])
		if !calls[0].Time.Equal(c.now()) {
			t.Errorf("time: got %v, want %v", calls[0].Time, c.now())
		}
	})
}

// TestStoresAgree compares the stores under random calls.
func TestStoresAgree(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storesAgree(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func storesAgree(t *testing.T, random *rand.Rand) {
	c := newClock()
	inMemory, l := NewMemory(Times{}, c.now), newLayer(t, peers.StartRedis(t).URL)
	inRedis := NewRedis(l, Times{})
	inRedis.now = c.now
	type pair struct{ memory, redis *storeNode }
	nodes := map[string]*pair{}
	for _, name := range []string{"a", "b", "c"} {
		nodes[name] = &pair{newStoreNode(t, inMemory, name), newStoreNode(t, inRedis, name)}
	}
	inMemory.began = c.now()
	both := func(what string, f func(n *storeNode) any, n *pair) any {
		t.Helper()
		x, y := f(n.memory), f(n.redis)
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("%s of %s: memory %+v, redis %+v", what, n.memory.reg.Node, x, y)
		}
		return x
	}
	var told []Announcement
	change := func(n *pair, of string, changes ...Change) {
		t.Helper()
		result := both(fmt.Sprintf("%c %v", changes[0].Op, changes[0].Key), func(n *storeNode) any {
			return n.change(of, changes...)
		}, n)
		told = append(told, result.(Changed).Announcements...)
	}
	for range 1500 {
		c.advance(time.Duration(random.IntN(1500)) * time.Millisecond)
		name := []string{"a", "b", "c"}[min(random.IntN(5), 2)]
		n := nodes[name]
		key := Key{fmt.Sprint("g", random.IntN(2)), fmt.Sprint(random.IntN(4))}
		policy := &Policy{
			Grace: time.Duration(random.IntN(40)) * time.Second, AnnounceUpTo: random.IntN(4), Webhook: "h", WebhookUsers: true,
		}
		switch random.IntN(12) {
		case 0, 1, 2:
			change(n, name, Change{Op: OpEnter, Key: key, Info: "{}", Policy: policy})
		case 3, 4, 5:
			change(n, name, Change{Op: OpRelease, Key: key}, Change{Op: OpRelease, Key: Key{"g1", "1"}})
		case 6:
			op := []Op{OpRestore, OpRestoreReleased}[random.IntN(2)]
			change(n, name, Change{Op: op, Key: key, Policy: policy})
		case 7:
			both("register", func(n *storeNode) any { return n.register().Emptied }, n)
		case 8:
			if len(told) > 0 {
				a := told[0]
				told = told[1:]
				change(n, name, Change{Op: OpAcknowledge, Key: a.Key, Kind: a.Kind, Members: a.Members})
			}
		case 9:
			if random.IntN(20) == 0 {
				l.flush(t, 0)
				inMemory.mu.Lock()
				inMemory.reset()
				inMemory.began = c.now()
				inMemory.mu.Unlock()
				both("register", func(n *storeNode) any { return n.register().Emptied }, n)
			}
		default:
			tended := both("tend", func(n *storeNode) any {
				tended := n.tend()
				slices.Sort(tended.Dead)
				byKey := func(a, b Key) int { return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.User, b.User)) }
				slices.SortFunc(tended.Expired, byKey)
				slices.SortFunc(tended.Unclaimed, func(a, b Announcement) int {
					return cmp.Or(cmp.Compare(a.Kind, b.Kind), byKey(a.Key, b.Key))
				})
				if len(tended.Expired) == 0 {
					tended.Expired = nil
				}
				return tended
			}, n).(Tended)
			for _, k := range tended.Expired {
				change(n, name, Change{Op: OpExpire, Key: k})
			}
			for _, a := range tended.Unclaimed {
				change(n, name, Change{Op: OpClaim, Key: a.Key, Kind: a.Kind})
			}
			for _, dead := range tended.Dead {
				change(n, dead, Change{Op: OpRelease, Key: key})
			}
		}
		for _, group := range []string{"g0", "g1"} {
			x, _ := inMemory.List(context.Background(), group, 10)
			y, err := inRedis.List(context.Background(), group, 10)
			if err != nil || x.Count != y.Count || !slices.Equal(x.Users, y.Users) {
				t.Fatalf("list: memory %+v, redis %+v (%v)", x, y, err)
			}
		}
	}
}
