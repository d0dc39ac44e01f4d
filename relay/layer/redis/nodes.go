package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// beatKept is how long a beat with a state stays in Redis, so that other nodes know for how long a node has been dead.
const beatKept = 10 * time.Minute

// nodeState is the content of a node's last beat.
type nodeState struct {
	beats    bool          // there is a beat; false: dead for an unknown time
	age      time.Duration // of the beat, by Redis's clock
	unread   time.Duration // how long the node had not read its mailbox, at the beat
	patterns string        // fingerprints of the patterns of groups with a history; empty: the node keeps none
	at       time.Time     // when this node read the beat
}

// unknownAge is the age of a node without a beat.
const unknownAge = 1000 * time.Hour

// behind returns for how long the node's mailbox may have been unread.
func (s nodeState) behind() time.Duration {
	if !s.beats {
		return unknownAge
	}
	return s.age + s.unread + time.Since(s.at)
}

// late reports whether messages may have expired unread in the node's mailbox.
func (s nodeState) late(expiry time.Duration) bool {
	return s.behind() >= expiry-min(readMargin, expiry/4)
}

// dead reports whether a node whose beats last for a while has missed them.
func (s nodeState) dead(lasts time.Duration) bool { return !s.beats || s.age >= lasts }

// value returns the text of a beat: how long it is kept and how long the mailbox was unread, in milliseconds, and the
// patterns. Nodes without a history, and earlier versions, write "1".
func (s nodeState) value() string {
	return fmt.Sprintf("%d %d %s", beatKept.Milliseconds(), s.unread.Milliseconds(), s.patterns)
}

// parseBeat reads a beat and its remaining lifetime. lasts is the lifetime of beats that do not tell theirs.
func parseBeat(text string, left, lasts time.Duration) nodeState {
	s := nodeState{beats: true, at: time.Now()}
	kept := lasts
	if fields := strings.Split(text, " "); len(fields) == 3 {
		whole, err := strconv.ParseInt(fields[0], 10, 32)
		unread, err2 := strconv.ParseInt(fields[1], 10, 32)
		if err != nil || err2 != nil || whole < 0 || unread < 0 {
			return nodeState{at: s.at}
		}
		kept, s.unread = time.Duration(whole)*time.Millisecond, time.Duration(unread)*time.Millisecond
		s.patterns = fields[2]
	}
	s.age = max(kept-left, 0)
	return s
}

// roster is the last known state of the nodes on a host.
type roster struct {
	mu    sync.Mutex
	nodes map[string]nodeState // by receiver; nil: not read yet
}

// known returns the states, nil if one of the receivers is not among them.
func (r *roster) known(receivers map[string]bool) map[string]nodeState {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range receivers {
		if _, ok := r.nodes[name]; !ok {
			return nil
		}
	}
	return r.nodes
}

// readNodes reads the roster and the beats of a host.
func (h *heartbeat) readNodes(ctx context.Context, host int) (map[string]nodeState, error) {
	c := h.broker.hosts.Client(host)
	names, err := c.SMembers(ctx, h.rosterKey()).Result()
	if err != nil {
		return nil, err
	}
	type beat struct {
		text *goredis.StringCmd
		left *goredis.DurationCmd
	}
	pipe := c.Pipeline()
	beats := make(map[string]beat, len(names))
	for _, name := range names {
		if ownReceiver.MatchString(name) {
			beats[name] = beat{pipe.Get(ctx, h.beatKey(name)), pipe.PTTL(ctx, h.beatKey(name))}
		}
	}
	if len(beats) > 0 {
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) && !redisnet.WrongType(err) {
			return nil, err
		}
	}
	nodes := make(map[string]nodeState, len(beats))
	for name, b := range beats {
		if b.text.Err() != nil || b.left.Err() != nil || b.left.Val() <= 0 {
			nodes[name] = nodeState{at: time.Now()}
			continue
		}
		nodes[name] = parseBeat(b.text.Val(), b.left.Val(), h.times().lasts)
	}
	seen := &h.hosts[host].roster
	seen.mu.Lock()
	defer seen.mu.Unlock()
	seen.nodes = nodes
	return nodes, nil
}

// nodesFor returns the states of the relays among the members of groups. It asks Redis only if there are members that
// were not among the relays recently.
func (h *heartbeat) nodesFor(ctx context.Context, host int, arrivals []arrival) (map[string]nodeState, error) {
	others := map[string]bool{}
	own := h.broker.readers[host].receiver
	for _, a := range arrivals {
		for _, z := range a.members.Val() {
			channel, _ := z.Member.(string)
			if name := receiver(channel); name != own && ownReceiver.MatchString(name) {
				others[name] = true
			}
		}
	}
	if len(others) == 0 {
		return nil, nil
	}
	if nodes := h.hosts[host].roster.known(others); nodes != nil {
		return nodes, nil
	}
	return h.readNodes(ctx, host)
}
