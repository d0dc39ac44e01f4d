package presence

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// Memory is a store inside the process, with one shard. The nodes of a process may share it. It has the behavior of
// [Redis].
type Memory struct {
	times Times
	now   func() time.Time

	mu      sync.Mutex // guards all below
	epoch   string
	began   time.Time // of the epoch
	nodes   map[string]*memoryNode
	dead    map[string]bool
	groups  map[string]map[string]*memoryMember // by group and user
	leaving map[Key]time.Time                   // end of the grace period
	outbox  map[announcementKey]*outgoing
	queues  map[string]*memoryQueue // by webhook
	calls   uint64                  // for their IDs
}

type memoryNode struct {
	calls          int64
	lease, suspect time.Time // suspect: when the ended lease was first noticed; zero: it was not
	held           map[Key]bool
}

type memoryMember struct {
	nodes  map[string]bool
	info   string
	policy Policy
	// uncertain: pages may have been told that the user has left.
	uncertain bool
}

type announcementKey struct {
	kind Kind
	Key
}

// outgoing is an announcement in the outbox.
type outgoing struct {
	due  time.Time // from then on, any node may claim it
	info string
}

// NewMemory returns an empty store. now is the clock; nil: [time.Now].
func NewMemory(times Times, now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	m := &Memory{times: times.withDefaults(), now: now}
	m.reset()
	return m
}

func (m *Memory) reset() {
	m.epoch, m.began = rand.Text(), time.Time{}
	m.nodes, m.dead = map[string]*memoryNode{}, map[string]bool{}
	m.groups, m.leaving = map[string]map[string]*memoryMember{}, map[Key]time.Time{}
	m.outbox, m.queues = map[announcementKey]*outgoing{}, map[string]*memoryQueue{}
}

// Shards implements [Store].
func (m *Memory) Shards() int { return 1 }

// Shard implements [Store].
func (m *Memory) Shard(string) int { return 0 }

// Register implements [Store].
func (m *Memory) Register(_ context.Context, _ int, before Registration) (Registered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[before.Node]
	if n == nil {
		n = &memoryNode{held: map[Key]bool{}}
		m.nodes[before.Node] = n
	}
	n.calls, n.lease, n.suspect = 0, m.now().Add(m.leaseBeforeSuspicion()), time.Time{}
	delete(m.dead, before.Node)
	return Registered{
		Registration: Registration{Node: before.Node, Epoch: m.epoch},
		Emptied:      before.Epoch != "" && before.Epoch != m.epoch,
	}, nil
}

func (m *Memory) leaseBeforeSuspicion() time.Duration { return m.times.Lease - m.times.suspicion() }

// Held implements [Store].
func (m *Memory) Held(_ context.Context, _ int, node string, _ uint64, limit int) (held []Key, _ uint64, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[node]; n != nil {
		for k := range n.held {
			held = append(held, k)
			if m.dead[node] && len(held) == limit { // The caller releases them and asks again.
				break
			}
		}
	}
	return held, 0, nil
}

// known reports whether a registration is current. m.mu is held.
func (m *Memory) known(by Registration) *memoryNode {
	n := m.nodes[by.Node]
	if n == nil || m.dead[by.Node] || m.epoch != by.Epoch || n.calls != by.Calls {
		return nil
	}
	return n
}

// Change implements [Store].
func (m *Memory) Change(_ context.Context, _ int, by Registration, of string, changes []Change) (c Changed, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.known(by)
	if n == nil {
		return c, nil
	}
	n.calls++
	c.Known = true
	if of != by.Node && !m.dead[of] { // The node lives again.
		return c, nil
	}
	for i := range changes {
		m.change(&c, by.Node, of, &changes[i])
	}
	return c, nil
}

// settling reports whether announcements wait until all nodes have restored their members.
func (m *Memory) settling() bool { return m.now().Before(m.began.Add(m.times.Settle)) }

// change applies a change. m.mu is held.
func (m *Memory) change(c *Changed, by, of string, ch *Change) {
	switch ch.Op {
	case OpEnter, OpRestore, OpRestoreReleased:
		m.enter(c, of, ch)
	case OpRelease:
		m.release(of, ch.Key, by != of)
	case OpExpire:
		m.expire(c, ch.Key)
	case OpClaim:
		m.claim(c, ch)
	case OpAcknowledge:
		m.acknowledge(c, ch)
	}
}

func (m *Memory) enter(c *Changed, node string, ch *Change) {
	group := m.groups[ch.Group]
	if group == nil {
		group = map[string]*memoryMember{}
		m.groups[ch.Group] = group
	}
	member := group[ch.User]
	isNew := member == nil
	if isNew {
		member = &memoryMember{nodes: map[string]bool{}, uncertain: true}
		group[ch.User] = member
	}
	certain := !member.uncertain
	member.nodes[node] = true
	if isNew || ch.Op != OpRestoreReleased {
		member.info, member.policy = ch.Info, *ch.Policy
	}
	if ch.Op != OpRestoreReleased {
		member.uncertain = false
	}
	m.nodes[node].held[ch.Key] = true
	delete(m.leaving, ch.Key)
	switch {
	case ch.Op == OpRestore:
		delete(m.outbox, announcementKey{Join, ch.Key})
	case ch.Op == OpRestoreReleased:
	case !certain:
		m.announce(c, Join, ch.Key, member)
	}
	if ch.Op == OpEnter && isNew {
		m.call(c, "joined", "occupied", ch.Key, member, 1)
	}
}

func (m *Memory) release(node string, key Key, dead bool) {
	if n := m.nodes[node]; n != nil {
		delete(n.held, key)
	}
	member := m.groups[key.Group][key.User]
	if member == nil || !member.nodes[node] {
		return
	}
	delete(member.nodes, node)
	if len(member.nodes) == 0 {
		grace := member.policy.Grace
		if dead {
			grace = max(0, grace-m.times.Lease)
		}
		m.leaving[key] = m.now().Add(grace)
		if settled := m.began.Add(m.times.Settle); m.leaving[key].Before(settled) {
			m.leaving[key] = settled
		}
	}
}

func (m *Memory) expire(c *Changed, key Key) {
	end, leaving := m.leaving[key]
	if !leaving || m.now().Before(end) {
		return
	}
	delete(m.leaving, key)
	group := m.groups[key.Group]
	member := group[key.User]
	if delete(group, key.User); len(group) == 0 {
		delete(m.groups, key.Group)
	}
	m.announce(c, Leave, key, member)
	m.call(c, "left", "vacated", key, member, 0)
}

// announce puts an announcement into the outbox, and gives it to the caller unless it is to wait.
func (m *Memory) announce(c *Changed, kind Kind, key Key, member *memoryMember) {
	now, n, bound := m.now(), len(m.groups[key.Group]), member.policy.AnnounceUpTo
	before := n // members that are told, with the one concerned
	if kind == Leave {
		before++
	}
	delete(m.outbox, announcementKey{kind.opposite(), key})
	switch {
	case bound == 0:
	case before > bound:
		count := announcementKey{Count, Key{Group: key.Group}}
		if m.outbox[count] == nil {
			m.outbox[count] = &outgoing{due: now.Add(countPause)}
		}
	case m.settling():
		m.outbox[announcementKey{kind, key}] = &outgoing{m.began.Add(m.times.Settle), member.info}
	default:
		m.outbox[announcementKey{kind, key}] = &outgoing{now.Add(m.times.Claim), member.info}
		c.Announcements = append(c.Announcements, Announcement{kind, key, member.info, n})
	}
}

// countPause is the time between two announcements of the number of members.
const countPause = time.Second

func (m *Memory) claim(c *Changed, ch *Change) {
	key := announcementKey{ch.Kind, ch.Key}
	o := m.outbox[key]
	if o == nil || m.now().Before(o.due) {
		return
	}
	if !m.isTrue(key) {
		delete(m.outbox, key)
		return
	}
	o.due = m.now().Add(m.times.Claim)
	c.Announcements = append(c.Announcements, Announcement{ch.Kind, ch.Key, o.info, len(m.groups[ch.Group])})
}

// isTrue reports whether the members are as an announcement says.
func (m *Memory) isTrue(a announcementKey) bool {
	_, present := m.groups[a.Group][a.User]
	return a.kind == Count || present == (a.kind == Join)
}

func (m *Memory) acknowledge(c *Changed, ch *Change) {
	key := announcementKey{ch.Kind, ch.Key}
	if ch.Kind == Count {
		if delete(m.outbox, key); len(m.groups[ch.Group]) != ch.Members {
			m.outbox[key] = &outgoing{due: m.now().Add(countPause)}
		}
		return
	}
	o := m.outbox[key]
	delete(m.outbox, key)
	if m.isTrue(key) || m.settling() {
		return
	}
	opposite := announcementKey{ch.Kind.opposite(), ch.Key}
	info := ""
	if member := m.groups[ch.Group][ch.User]; member != nil {
		info = member.info
	} else if o != nil {
		info = o.info
	}
	m.outbox[opposite] = &outgoing{m.now().Add(m.times.Claim), info}
	c.Announcements = append(c.Announcements, Announcement{opposite.kind, ch.Key, info, len(m.groups[ch.Group])})
}

// Tend implements [Store].
func (m *Memory) Tend(_ context.Context, _ int, by Registration, limit int) (t Tended, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.known(by)
	if own == nil {
		return t, nil
	}
	now := m.now()
	t.Known = true
	own.lease, own.suspect = now.Add(m.leaseBeforeSuspicion()), time.Time{}
	for id, n := range m.nodes {
		switch {
		case m.dead[id] || now.Before(n.lease):
		case n.suspect.IsZero():
			n.suspect = now
		case !now.Before(n.suspect.Add(m.times.suspicion())):
			m.dead[id] = true
		}
	}
	for id := range m.dead {
		t.Dead = append(t.Dead, id)
	}
	for key, end := range m.leaving {
		if !now.Before(end) && len(t.Expired) < limit {
			t.Expired = append(t.Expired, key)
		}
	}
	for key, o := range m.outbox {
		if !now.Before(o.due) && len(t.Unclaimed) < limit {
			t.Unclaimed = append(t.Unclaimed, Announcement{Kind: key.kind, Key: key.Key})
		}
	}
	return t, nil
}

// Remove implements [Store].
func (m *Memory) Remove(_ context.Context, _ int, node string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[node]; n != nil && len(n.held) == 0 {
		delete(m.nodes, node)
		delete(m.dead, node)
	}
	return nil
}

// List implements [Store].
func (m *Memory) List(_ context.Context, group string, limit int) (Members, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := Members{Count: len(m.groups[group])}
	for user, member := range m.groups[group] {
		if len(list.Users) == limit {
			break
		}
		list.Users = append(list.Users, Member{user, member.info})
	}
	list.order()
	return list, nil
}

var _ Store = (*Memory)(nil)
