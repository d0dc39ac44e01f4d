package redis

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Dead nodes have to be removed from their groups: with AWX's settings a membership lasts for years, and emitters fill
// a dead member's channel key until it is full. So nodes watch each other. On each host, a node keeps a key that
// expires soon, the beat, and its name in a set, the roster. If a beat stays missing, another node, such as the dead
// node's successor, removes the dead node. Members without an entry in the roster, such as Daphne and every other
// Python process, are never touched. The keys are outside the prefix, under which Django deletes all keys. Redis
// expires the beat, and the wait uses a monotonic clock, so a step of a wall clock makes no node look dead.
//
// With a history, the beat tells how well the mailbox is read, and is kept for longer: its remaining lifetime is its
// age.

// beatTimes are the periods of the heartbeat.
type beatTimes struct {
	every   time.Duration // between beats, and between checks of other nodes
	lasts   time.Duration // until a beat expires, or is too old
	missing time.Duration // from the first missing beat until a node is dead
}

// usualBeat makes a node dead 40 to 55 seconds after the last beat: not much sooner than messages expire, and not
// later.
var usualBeat = beatTimes{every: 5 * time.Second, lasts: 30 * time.Second, missing: 15 * time.Second}

// historyBeat makes a node dead 28 to 34 seconds after the last beat, so that its unread messages are in the history
// well before they expire.
var historyBeat = beatTimes{every: 3 * time.Second, lasts: 20 * time.Second, missing: 8 * time.Second}

// heartbeat keeps this node's beats and watches the other nodes. Each host has a goroutine.
// See docs/decisions/layers.md#why-do-living-nodes-remove-dead-nodes
type heartbeat struct {
	broker *Broker
	fixed  beatTimes // of tests; zero: the times follow from the history
	hosts  []*hostBeat
}

// times returns the current periods.
func (h *heartbeat) times() beatTimes {
	switch {
	case h.fixed != beatTimes{}:
		return h.fixed
	case h.broker.history.Load() != nil:
		return historyBeat
	}
	return usualBeat
}

// kick has every host's beat written soon, because the history has changed.
func (h *heartbeat) kick() {
	for _, on := range h.hosts {
		select {
		case on.changed <- struct{}{}:
		default:
		}
	}
}

// hostBeat is the heartbeat on a host.
type hostBeat struct {
	host    int
	missed  map[string]time.Time // by receiver: when the beat was first missing; of the host's goroutine
	warned  atomic.Bool          // the user may not use the keys
	changed chan struct{}
	roster  roster
	stop    context.CancelFunc
	stopped chan struct{}
}

func newHeartbeat(b *Broker) *heartbeat {
	h := &heartbeat{broker: b}
	for host := range b.hosts.Size {
		h.hosts = append(h.hosts, &hostBeat{
			host: host, missed: map[string]time.Time{}, changed: make(chan struct{}, 1), stopped: make(chan struct{}),
		})
	}
	return h
}

// ownReceiver matches the receivers of relays.
var ownReceiver = regexp.MustCompile(`^specific\.[0-9a-f]{32}!$`)

// rosterKey is the set of the relays with channel keys on a host.
func (h *heartbeat) rosterKey() string { return "edgerelay:nodes:" + h.broker.place.Prefix }

// beatKey exists while a node runs.
func (h *heartbeat) beatKey(receiver string) string {
	return "edgerelay:node:" + h.broker.place.Prefix + ":" + receiver
}

// start beats on a host until ctx ends or leave is called.
func (h *heartbeat) start(ctx context.Context, host int) {
	on := h.hosts[host]
	ctx, on.stop = context.WithCancel(ctx)
	h.broker.life.Go(func() {
		defer close(on.stopped)
		h.run(ctx, on)
	})
}

// run beats on a host until ctx ends.
func (h *heartbeat) run(ctx context.Context, on *hostBeat) {
	for {
		err := errors.Join(h.beat(ctx, on), h.watch(ctx, on))
		var refused goredis.Error
		if errors.As(err, &refused) && strings.HasPrefix(refused.Error(), "NOPERM") && !on.warned.Swap(true) {
			h.broker.log.Warn("dead-node cleanup disabled", "error", err,
				"remedy", "give the redis user access to edgerelay:*")
		} // Health reports every other error.
		select {
		case <-time.After(h.times().every):
		case <-on.changed:
		case <-ctx.Done():
			return
		}
	}
}

// beat says that this node is alive.
func (h *heartbeat) beat(ctx context.Context, on *hostBeat) error {
	err := h.beatOnce(ctx, on)
	if !redisnet.WrongType(err) {
		return err
	}
	if err := h.broker.heal(ctx, on.host, h.rosterKey()); err != nil {
		return err
	}
	return h.beatOnce(ctx, on)
}

func (h *heartbeat) beatOnce(ctx context.Context, on *hostBeat) error {
	own := h.broker.readers[on.host].receiver
	pipe := h.broker.hosts.Client(on.host).Pipeline()
	pipe.SAdd(ctx, h.rosterKey(), own)
	h.setBeat(ctx, pipe, on.host)
	_, err := pipe.Exec(ctx)
	return err
}

// begin beats before this node joins groups with a history, unless its beat in Redis tells of that history already: a
// node that joins later takes a member without such a beat for one whose mailbox has no events, and marks a gap. There
// is no such beat at first, after Redis has lost it, and after a change of the policy.
func (h *heartbeat) begin(ctx context.Context, host int, beat string, kept *history) error {
	if parseBeat(beat, 0, 0).patterns == kept.patterns.Load().value {
		return nil
	}
	if err := h.beat(ctx, h.hosts[host]); err != nil && !redisnet.IsReply(err) {
		return err
	}
	return nil
}

// setBeat adds the command that writes this node's beat. With a history the beat says how well the mailbox is read.
func (h *heartbeat) setBeat(ctx context.Context, pipe goredis.Pipeliner, host int) {
	r := h.broker.readers[host]
	kept := h.broker.history.Load()
	if kept == nil {
		pipe.Set(ctx, h.beatKey(r.receiver), 1, h.times().lasts)
		return
	}
	s := nodeState{patterns: kept.patterns.Load().value, unread: r.unreadFor()}
	pipe.Set(ctx, h.beatKey(r.receiver), s.value(), beatKept)
}

// leave deletes this node's beat on a host.
func (h *heartbeat) leave(ctx context.Context, host int) error {
	on := h.hosts[host]
	on.stop()
	select {
	case <-on.stopped:
	case <-ctx.Done():
		return ctx.Err()
	}
	if on.warned.Load() {
		return nil
	}
	own := h.broker.readers[host].receiver
	pipe := h.broker.hosts.Client(host).Pipeline()
	pipe.SRem(ctx, h.rosterKey(), own)
	pipe.Del(ctx, h.beatKey(own))
	_, err := pipe.Exec(ctx)
	return err
}

// watch checks the beats of all nodes on a host, and removes the dead ones.
func (h *heartbeat) watch(ctx context.Context, on *hostBeat) error {
	nodes, err := h.readNodes(ctx, on.host)
	if err != nil {
		return err
	}
	for receiver := range on.missed {
		if _, ok := nodes[receiver]; !ok { // Another node has removed the dead node.
			delete(on.missed, receiver)
		}
	}
	times := h.times()
	for receiver, node := range nodes {
		if receiver == h.broker.readers[on.host].receiver {
			continue
		}
		since, missing := on.missed[receiver]
		switch {
		case !node.dead(times.lasts):
			delete(on.missed, receiver)
		case !missing:
			on.missed[receiver] = time.Now()
		case time.Since(since) >= times.missing:
			// An error, such as of another host, must not stop the removal of other nodes.
			err = errors.Join(err, h.removeDeadNode(ctx, on, receiver, node))
		}
	}
	return err
}

// removeDeadNode removes a node from the channel layer, unless another node has the claim.
func (h *heartbeat) removeDeadNode(ctx context.Context, on *hostBeat, receiver string, node nodeState) error {
	claim := "edgerelay:bury:" + h.broker.place.Prefix + ":" + receiver
	ours, err := h.claim(ctx, on.host, claim)
	if err != nil || !ours {
		return err
	}
	if kept := h.broker.history.Load(); kept != nil {
		err = kept.adopt(ctx, on, receiver, node, claim)
	} else {
		err = h.bury(ctx, on, receiver, claim)
	}
	if err == nil {
		delete(on.missed, receiver)
	}
	return err
}

// bury removes a node that is claimed, and its unread messages.
func (h *heartbeat) bury(ctx context.Context, on *hostBeat, receiver, claim string) error {
	began := time.Now()
	c := h.broker.hosts.Client(on.host)
	groups, err := h.expelEverywhere(ctx, receiver)
	if err != nil {
		return err
	}
	mailbox := []string{h.broker.place.Prefix + receiver, inflightKey(h.broker.place.Prefix, receiver)}
	unread, err := countMessages(ctx, c, mailbox)
	if err != nil {
		return err
	}
	pipe := c.Pipeline()
	pipe.Del(ctx, append(mailbox, claim, h.beatKey(receiver))...)
	pipe.SRem(ctx, h.rosterKey(), receiver)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	if unread > 0 {
		h.broker.lost(relay.Loss{Cause: relay.LossDeadNode, Events: unread})
	}
	h.broker.log.Info("dead node removed from the channel layer", "node", receiver, "groups", groups,
		"unread", unread, "duration", time.Since(began).Round(time.Millisecond))
	return nil
}

// expelEverywhere removes a receiver from the groups on all hosts. Nodes of earlier versions have the same name on all
// hosts.
func (h *heartbeat) expelEverywhere(ctx context.Context, receiver string) (groups int64, err error) {
	var count atomic.Int64
	err = h.broker.eachHost(func(host int) error {
		n, err := h.expel(ctx, h.broker.hosts.Client(host), receiver, removeMembers)
		count.Add(int64(n))
		return err
	})
	return count.Load(), err
}

// countMessages returns the number of messages in keys. A key of another type has none.
func countMessages(ctx context.Context, c *goredis.Client, keys []string) (n int, err error) {
	pipe := c.Pipeline()
	counts := make([]*goredis.IntCmd, len(keys))
	for i, k := range keys {
		counts[i] = pipe.ZCard(ctx, k)
	}
	if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
		return 0, err
	}
	for _, count := range counts {
		n += int(count.Val())
	}
	return n, nil
}

// claim takes the right to remove a dead node, for a while. A claim that never expires is not a relay's.
func (h *heartbeat) claim(ctx context.Context, host int, key string) (ours bool, err error) {
	c := h.broker.hosts.Client(host)
	own := h.broker.readers[host].receiver
	ours, err = c.SetNX(ctx, key, own, h.times().lasts).Result()
	if err != nil || ours {
		return ours, err
	}
	if owner, err := c.Get(ctx, key).Result(); err == nil && owner == own { // an attempt that failed
		return true, nil
	}
	left, err := c.PTTL(ctx, key).Result()
	if err != nil || left != -1 { // -1: no expiry
		return false, err
	}
	return false, h.broker.heal(ctx, host, key)
}

// expel calls take with the channels of a receiver in the groups on a host, by key. Their names begin with the
// receiver. It returns the number of memberships.
func (h *heartbeat) expel(ctx context.Context, c *goredis.Client, receiver string,
	take func(ctx context.Context, c *goredis.Client, found map[string][]string) error,
) (groups int, err error) {
	pattern := globEscape(groupKey(h.broker.place.Prefix, "")) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, pattern, pipelineSize).Result()
		if err != nil {
			return groups, err
		}
		found, err := membersOf(ctx, c, keys, receiver)
		if err == nil && len(found) > 0 {
			err = take(ctx, c, found)
		}
		for _, channels := range found {
			groups += len(channels)
		}
		if err != nil || next == 0 {
			return groups, err
		}
		cursor = next
	}
}

// membersOf returns the channels of a receiver in some groups, by key.
func membersOf(ctx context.Context, c *goredis.Client, keys []string, receiver string) (map[string][]string, error) {
	members := map[string][]string{}
	cursors := make(map[string]uint64, len(keys))
	for _, k := range keys {
		cursors[k] = 0
	}
	for len(cursors) > 0 {
		look, scans := c.Pipeline(), make(map[string]*goredis.ScanCmd, len(cursors))
		for k, cursor := range cursors {
			scans[k] = look.ZScan(ctx, k, cursor, receiver+"*", 1000)
		}
		if _, err := look.Exec(ctx); err != nil && !redisnet.IsReply(err) { // A key of another type is no group.
			return nil, err
		}
		for k, scan := range scans {
			found, next, err := scan.Result()
			for i := 0; i < len(found); i += 2 { // members and scores
				members[k] = append(members[k], found[i])
			}
			if cursors[k] = next; next == 0 || err != nil {
				delete(cursors, k)
			}
		}
	}
	return members, nil
}

// removeMembers removes channels from groups, by key.
func removeMembers(ctx context.Context, c *goredis.Client, found map[string][]string) error {
	pipe := c.Pipeline()
	for k, channels := range found {
		for _, channel := range channels {
			pipe.ZRem(ctx, k, channel)
		}
	}
	_, err := pipe.Exec(ctx)
	return err
}

// globEscape returns a pattern of Redis that matches only s.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}
