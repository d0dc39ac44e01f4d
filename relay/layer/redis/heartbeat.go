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
// expires
// soon, the beat, and its name in a set, the roster. If a beat stays missing, another node, such as the dead node's
// successor, removes the dead node. Members without an entry in the roster, such as Daphne and every other Python
// process,
// are never touched. The keys are outside the prefix, under which Django deletes all keys. Redis expires the beat, and
// the wait uses a monotonic clock, so a step of a wall clock makes no node look dead.

// beatTimes are the periods of the heartbeat.
type beatTimes struct {
	every   time.Duration // between beats, and between checks of other nodes
	lasts   time.Duration // until a beat expires
	missing time.Duration // from the first missing beat until a node is dead
}

// usualBeat makes a node dead 45 to 65 seconds after the last beat, not much sooner than messages expire.
var usualBeat = beatTimes{every: 10 * time.Second, lasts: 35 * time.Second, missing: 15 * time.Second}

// heartbeat keeps this node's beats and watches the other nodes. Each host has a goroutine.
// See docs/decisions/layers.md#why-do-living-nodes-remove-dead-nodes
type heartbeat struct {
	broker *Broker
	times  beatTimes
	hosts  []*hostBeat
}

// hostBeat is the heartbeat on a host.
type hostBeat struct {
	host    int
	missed  map[string]time.Time // by receiver: when the beat was first missing; of the host's goroutine
	warned  atomic.Bool          // the user may not use the keys
	stop    context.CancelFunc
	stopped chan struct{}
}

func newHeartbeat(b *Broker) *heartbeat {
	h := &heartbeat{broker: b, times: usualBeat}
	for host := range b.hosts.Size {
		h.hosts = append(h.hosts, &hostBeat{host: host, missed: map[string]time.Time{}, stopped: make(chan struct{})})
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
	tick := time.NewTicker(h.times.every)
	defer tick.Stop()
	for {
		err := errors.Join(h.beat(ctx, on), h.watch(ctx, on))
		var refused goredis.Error
		if errors.As(err, &refused) && strings.HasPrefix(refused.Error(), "NOPERM") && !on.warned.Swap(true) {
			h.broker.log.Warn("dead-node cleanup disabled", "error", err,
				"remedy", "give the redis user access to edgerelay:*")
		} // Health reports every other error.
		select {
		case <-tick.C:
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
	pipe.Set(ctx, h.beatKey(own), 1, h.times.lasts)
	_, err := pipe.Exec(ctx)
	return err
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
	c := h.broker.hosts.Client(on.host)
	roster, err := c.SMembers(ctx, h.rosterKey()).Result()
	if err != nil {
		return err
	}
	pipe := c.Pipeline()
	beats := make(map[string]*goredis.IntCmd, len(roster))
	for _, receiver := range roster {
		if receiver != h.broker.readers[on.host].receiver && ownReceiver.MatchString(receiver) {
			beats[receiver] = pipe.Exists(ctx, h.beatKey(receiver))
		}
	}
	if len(beats) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	for receiver := range on.missed {
		if beats[receiver] == nil { // Another node has removed the dead node.
			delete(on.missed, receiver)
		}
	}
	for receiver, beat := range beats {
		since, missing := on.missed[receiver]
		switch {
		case beat.Val() > 0:
			delete(on.missed, receiver)
		case !missing:
			on.missed[receiver] = time.Now()
		case time.Since(since) >= h.times.missing:
			// An error, such as of another host, must not stop the removal of other nodes.
			err = errors.Join(err, h.removeDeadNode(ctx, on, receiver))
		}
	}
	return err
}

// removeDeadNode removes a node from the channel layer, unless another node has the claim.
func (h *heartbeat) removeDeadNode(ctx context.Context, on *hostBeat, receiver string) error {
	c := h.broker.hosts.Client(on.host)
	claim := "edgerelay:bury:" + h.broker.place.Prefix + ":" + receiver
	ours, err := h.claim(ctx, on.host, claim)
	if err != nil || !ours {
		return err
	}
	began := time.Now()
	var groups atomic.Int64
	err = h.broker.eachHost(func(host int) error { // Nodes of earlier versions have the same name on all hosts.
		n, err := h.expel(ctx, h.broker.hosts.Client(host), receiver)
		groups.Add(int64(n))
		return err
	})
	if err != nil {
		return err
	}
	mailbox := []string{h.broker.place.Prefix + receiver, inflightKey(h.broker.place.Prefix, receiver)}
	unread, err := countMessages(ctx, c, mailbox)
	if err != nil {
		return err
	}
	pipe := c.Pipeline()
	pipe.Del(ctx, append(mailbox, claim)...)
	pipe.SRem(ctx, h.rosterKey(), receiver)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	delete(on.missed, receiver)
	if unread > 0 {
		h.broker.lost(relay.Loss{Cause: relay.LossDeadNode, Events: unread})
	}
	h.broker.log.Info("dead node removed from the channel layer", "node", receiver, "groups", groups.Load(),
		"unread", unread, "duration", time.Since(began).Round(time.Millisecond))
	return nil
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
	ours, err = c.SetNX(ctx, key, h.broker.readers[host].receiver, h.times.lasts).Result()
	if err != nil || ours {
		return ours, err
	}
	left, err := c.PTTL(ctx, key).Result()
	if err != nil || left != -1 { // -1: no expiry
		return false, err
	}
	return false, h.broker.heal(ctx, host, key)
}

// expel removes all channels of a receiver from the groups on a host. Their names begin with the receiver.
func (h *heartbeat) expel(ctx context.Context, c *goredis.Client, receiver string) (groups int, err error) {
	pattern := globEscape(groupKey(h.broker.place.Prefix, "")) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, pattern, pipelineSize).Result()
		if err != nil {
			return groups, err
		}
		n, err := expelFrom(ctx, c, keys, receiver)
		if groups += n; err != nil || next == 0 {
			return groups, err
		}
		cursor = next
	}
}

// expelFrom removes all channels of a receiver from some groups.
func expelFrom(ctx context.Context, c *goredis.Client, keys []string, receiver string) (groups int, err error) {
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
			return groups, err
		}
		remove, any := c.Pipeline(), false
		for k, scan := range scans {
			found, next, err := scan.Result()
			for i := 0; i < len(found); i += 2 { // members and scores
				remove.ZRem(ctx, k, found[i])
				groups++
				any = true
			}
			if cursors[k] = next; next == 0 || err != nil {
				delete(cursors, k)
			}
		}
		if any {
			if _, err := remove.Exec(ctx); err != nil {
				return groups, err
			}
		}
	}
	return groups, nil
}

// globEscape returns a pattern of Redis that matches only s.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}
