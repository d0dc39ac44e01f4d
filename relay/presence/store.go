package presence

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Policy is how the members of a route are treated. If several routes have the same group, the policy of a member's
// last connection applies to the member.
type Policy struct {
	// Grace is the time after a user's last connection before the user leaves.
	Grace time.Duration
	// AnnounceUpTo is the greatest number of members of a group whose joins and leaves are announced. In a larger group
	// the number of members is announced, at most once a second. 0 announces nothing.
	AnnounceUpTo int
	// Webhook is the ID of the webhook that is called when a group gets its first member, or has lost its last; empty:
	// none. See [Webhook].
	Webhook string
	// WebhookUsers also calls the webhook when a user joins or leaves.
	WebhookUsers bool
}

// Key names a member.
type Key struct {
	// Group is the full group name.
	Group string
	// User is the user's id as JSON.
	User string
}

// Kind is the meaning of an announcement.
type Kind byte

// The kinds of announcements.
const (
	// Join says that a user has entered the group.
	Join Kind = 'j'
	// Leave says that a user has left the group.
	Leave Kind = 'l'
	// Count says how many members a large group has.
	Count Kind = 'c'
)

// String returns the kind's name in metrics.
func (k Kind) String() string {
	switch k {
	case Join:
		return "join"
	case Leave:
		return "leave"
	}
	return "count"
}

// opposite returns Leave for Join, and Join for Leave.
func (k Kind) opposite() Kind {
	if k == Join {
		return Leave
	}
	return Join
}

// Announcement is a message to the members of a group.
type Announcement struct {
	Kind Kind
	// Key is the user concerned. For Count, Key.User is empty.
	Key
	// Info is a JSON object about the user; or empty.
	Info string
	// Members is the number of members of the group.
	Members int
}

// Op is a kind of change.
type Op byte

// The operations on a store. Each of them may be repeated without another effect.
const (
	// OpEnter adds the node to the nodes on which the user is.
	OpEnter Op = 'e'
	// OpRestore is OpEnter for a user who was in the store before the store was emptied: nothing is announced.
	OpRestore Op = 'q'
	// OpRestoreReleased is OpRestore for a user without a connection. A join that another node is about to announce stays.
	OpRestoreReleased Op = 'k'
	// OpRelease removes the node. Without a node, the user's grace period begins.
	OpRelease Op = 'r'
	// OpExpire removes a user whose grace period has ended.
	OpExpire Op = 'x'
	// OpClaim takes an announcement whose claim has ended.
	OpClaim Op = 'd'
	// OpAcknowledge removes an announcement that was published. If it is no longer true, the opposite is announced.
	OpAcknowledge Op = 'a'
)

// Change is an operation on one member or announcement.
type Change struct {
	Op Op
	Key
	// Info and Policy are those of the operations that enter.
	Info   string
	Policy *Policy
	// Kind is the announcement's, for OpClaim and OpAcknowledge; Members is the published number.
	Kind    Kind
	Members int
}

// Registration is the node's entry in a shard of a store. A call with a registration that the store does not know, as
// after the store was emptied, the lease has ended or a reply was lost, changes nothing.
type Registration struct {
	// Node is the node's id.
	Node string
	// Epoch identifies the contents of the shard since the store was last emptied.
	Epoch string
	// Calls is the number of calls of Change with this registration.
	Calls int64
}

// Registered is the result of a registration.
type Registered struct {
	Registration
	// Emptied is set if the store has lost its contents since the registration before.
	Emptied bool
}

// Changed is the result of changes.
type Changed struct {
	// Known is false if the store does not know the registration; nothing was changed.
	Known bool
	// Announcements are those that this node has to publish now.
	Announcements []Announcement
	// Queued is the number of new entries in the queues of webhooks, and Dropped the number of old entries that were
	// removed because a queue was full.
	Queued, Dropped int
}

// Tended is the work that is due in a shard.
type Tended struct {
	// Known is as in [Changed].
	Known bool
	// Expired are members whose grace period has ended, for OpExpire. Unclaimed are announcements, for OpClaim.
	Expired   []Key
	Unclaimed []Announcement
	// Dead are nodes whose lease has ended. Their members are to be released.
	Dead []string
}

// Members is the list of a group.
type Members struct {
	// Users are members in the order of their ids: all, or as many as the caller has asked for.
	Users []Member
	// Count is the number of all members.
	Count int
}

// Member is a user in a group.
type Member struct {
	// User is the user's id as JSON, and Info a JSON object about the user; or empty.
	User, Info string
}

// order sorts the users: numbers by value, before texts.
func (l *Members) order() {
	slices.SortFunc(l.Users, func(a, b Member) int {
		isText := func(user string) bool { return strings.HasPrefix(user, `"`) }
		switch {
		case isText(a.User) != isText(b.User):
			return strings.Compare(b.User, a.User)
		case !isText(a.User) && len(a.User) != len(b.User):
			return len(a.User) - len(b.User)
		}
		return strings.Compare(a.User, b.User)
	})
}

// Call is an entry in the queue of a webhook.
type Call struct {
	// ID is different for every entry, and the same each time that the entry is sent.
	ID string
	// Type is "occupied", "vacated", "joined" or "left".
	Type string
	// Key is the member that has joined or left.
	Key
	Info string
	// Count is the number of members.
	Count int
	// Time is when it happened.
	Time time.Time
}

// Store keeps the members of groups. Groups are spread over shards; within a shard every call is one step. Methods may
// be called concurrently. Errors leave open whether the call had an effect.
type Store interface {
	// Shards is the number of shards, and Shard the shard of a group.
	Shards() int
	Shard(group string) int
	// Register makes a node known in a shard. before is the node's registration until now; its Epoch is empty at first.
	Register(ctx context.Context, shard int, before Registration) (Registered, error)
	// Held returns members that the store has for a node, at most limit, in any order, from a cursor that is 0 at first.
	// A next of 0 ends the list. The same member may be returned twice.
	Held(ctx context.Context, shard int, node string, cursor uint64, limit int) (held []Key, next uint64, err error)
	// Change applies changes in order. of is the node whose members they concern: the node itself, or a dead one.
	Change(ctx context.Context, shard int, by Registration, of string, changes []Change) (Changed, error)
	// Tend renews the lease and returns what is to be done, at most limit of each kind.
	Tend(ctx context.Context, shard int, by Registration, limit int) (Tended, error)
	// Remove forgets a node without members, this one or a dead one.
	Remove(ctx context.Context, shard int, node string) error
	// List returns at most limit members of a group.
	List(ctx context.Context, group string, limit int) (Members, error)
	// TakeCalls returns the first entries in the queue of a webhook. It returns none while another node sends them; the
	// right to send lasts for a while from the last call.
	TakeCalls(ctx context.Context, shard int, node, webhook string, limit int) ([]Call, error)
	// DeleteCalls removes entries that were sent.
	DeleteCalls(ctx context.Context, shard int, webhook string, calls []Call) error
}

// Times are the periods of a store.
type Times struct {
	// Lease is how long a node's members stay without a sign of the node; the default is 30s. A sixth of it is the time
	// for which an ended lease must stay ended, so that a step of the store's clock ends none.
	Lease time.Duration
	// Claim is how long a node may take to publish an announcement before another node does; the default is 10s.
	Claim time.Duration
	// Settle is how long announcements wait after the store was emptied, until all nodes have restored their members; the
	// default is 3s.
	Settle time.Duration
	// QueueMax is the number of entries that the queue of a webhook holds; the default is 10,000 in each shard.
	QueueMax int
}

// withDefaults replaces times that are 0.
func (t Times) withDefaults() Times {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&t.Lease, 30*time.Second)
	set(&t.Claim, 10*time.Second)
	set(&t.Settle, 3*time.Second)
	if t.QueueMax == 0 {
		t.QueueMax = 10_000
	}
	return t
}

// suspicion is the part of the lease for which an ended lease must stay ended.
func (t Times) suspicion() time.Duration { return t.Lease / 6 }
