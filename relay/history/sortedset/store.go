// Package sortedset is a history in Redis beside the channel layer of channels_redis: one sorted set for each group,
// to which every member node adds the events that it reads. See docs/decisions/history.md.
package sortedset

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Options configure a Store.
type Options struct {
	// Prefix is the channel layer's prefix.
	Prefix string
	// Hosts are the layer's hosts. A group's history is on the group's host.
	Hosts *redisnet.Ring
	// Policy decides which groups have a history.
	Policy relay.HistoryPolicy
	// EncryptionKeys encrypt entries with the first key and decrypt with every key. Empty: no encryption.
	EncryptionKeys []string
	// Log receives the log lines; nil: none.
	Log *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Store is the history of a channel layer, on all its hosts. Methods may be called concurrently. Store implements
// [relay.History]; the layer wraps Read, because events may wait in mailboxes.
type Store struct {
	prefix   string // of the keys
	ring     *redisnet.Ring
	log      *slog.Logger
	now      func() time.Time
	settings atomic.Pointer[settings]
	policy   history.Policy // of the settings
	applying sync.Mutex     // one change of settings at a time
	hosts    []*host
	lastGap  atomic.Int64 // micros of the last position of a gap
	stats    counts
}

// settings are the settings that can change.
type settings struct {
	policy relay.HistoryPolicy
	keys   keyring
}

func (s *Store) setSettings(p relay.HistoryPolicy, keys keyring) {
	s.settings.Store(&settings{p, keys})
	s.policy.Set(p)
}

// counts are the counters of [relay.HistoryStats]. The layer counts adopted messages.
type counts struct{ recorded, trimmed, reads, failed, gaps atomic.Uint64 }

var (
	_ relay.History          = (*Store)(nil)
	_ relay.HistoryInspector = (*Store)(nil)
)

// New returns a Store. Nothing has a position before Load. [Store.Run] maintains the history.
func New(o Options) (*Store, error) {
	if err := o.Policy.Validate(); err != nil {
		return nil, err
	}
	s := &Store{prefix: "edgerelay:history:" + o.Prefix + ":", ring: o.Hosts, log: o.Log, now: o.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.setSettings(o.Policy, newKeyring(o.EncryptionKeys))
	for i := range o.Hosts.Size {
		s.hosts = append(s.hosts, newHost(s, i))
	}
	return s, nil
}

func (s *Store) keyKey() string               { return s.prefix + "key" }
func (s *Store) runKey() string               { return s.prefix + "run" }
func (s *Store) gapsKey() string              { return s.prefix + "gaps" }
func (s *Store) groupKey(group string) string { return s.prefix + "g:" + group }

// SetPolicy replaces the policy. Histories of groups that no longer have one expire. After a change of the key, nothing
// has a position before Load.
func (s *Store) SetPolicy(p relay.HistoryPolicy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	before := s.settings.Load()
	s.setSettings(p, before.keys)
	for _, h := range s.hosts {
		if p.Key != before.policy.Key {
			h.forgetEpoch()
		}
		h.apply(p)
	}
	return nil
}

// SetEncryptionKeys replaces the keys. Nothing has a position before the next Load, if encryption was off and is now
// on, or the other way round.
func (s *Store) SetEncryptionKeys(keys []string) {
	s.applying.Lock()
	defer s.applying.Unlock()
	before := s.settings.Load()
	s.setSettings(before.policy, newKeyring(keys))
	if (len(keys) > 0) != (len(before.keys) > 0) {
		for _, h := range s.hosts {
			h.forgetEpoch()
		}
	}
}

// Load reads or creates the key of the positions on a host, and notices a Redis that was restarted or wiped. It is
// called on each connection of the reader, before messages are read. The error is that of a broken connection: a host
// that rejects the commands keeps no history, and events go on. Trouble tells why.
func (s *Store) Load(ctx context.Context, host int) error {
	h := s.hosts[host]
	err := h.establish(ctx, true)
	h.note(err)
	if err != nil && !rejected(err) {
		return err
	}
	return nil
}

// Micros returns a message's score, in seconds, as microseconds, and false for a score that is not a time. Every node
// gets the same number.
func Micros(score []byte) (int64, bool) {
	seconds, err := strconv.ParseFloat(string(score), 64)
	if err != nil || !(0 < seconds && seconds < latestMicros/1e6) {
		return 0, false
	}
	return int64(math.Round(seconds * 1e6)), true
}

// latestMicros is the last time that a score holds exactly, in the year 2255.
const latestMicros = 1 << 53

// aheadMax is how far an emitter's clock may be ahead of this node's, in microseconds. An event from further in the
// future would stand behind all later ones.
const aheadMax = 10_000_000

// Identify returns the position of an event that was sent at a time, and zero if the group has no history, the key is
// unknown, or the event is from the future. It is called before clients get the event.
func (s *Store) Identify(ev *relay.Event, micros int64) relay.Position {
	group := ev.Group
	h := s.host(group)
	e := h.epoch.Load()
	if e == nil || len(group) > relay.MaxGroupName || micros <= 0 || len(ev.Type) > relay.MaxMessageType {
		return relay.Position{}
	}
	if _, ok := s.Limits(group); !ok {
		return relay.Position{}
	}
	if micros > s.now().UnixMicro()+aheadMax {
		s.log.Warn("event from the future, not kept in the history", "group", group,
			"remedy", "synchronize the clocks of the emitters")
		return relay.Position{}
	}
	h.mu.Lock()
	if g := h.group(group); g != nil {
		g.identified = max(g.identified, micros)
	}
	h.mu.Unlock()
	h.saw(micros)
	return relay.Position{Micros: micros, Mark: e.marks.mark(ev, micros)}
}

// Limits implements [relay.History].
func (s *Store) Limits(group string) (relay.HistoryLimits, bool) {
	return s.policy.Limits(group)
}

// host returns the host of a group.
func (s *Store) host(group string) *host { return s.hosts[s.ring.Index(group)] }

// nextGap returns a new position of a gap: just behind the newest event that clients of this node have, so that a
// resume from there includes what this node has not read yet, however far it is behind.
func (s *Store) nextGap(newest int64) relay.Position {
	for {
		last := s.lastGap.Load()
		at := max(last, newest) + 1
		if at == 1 {
			at = s.now().UnixMicro()
		}
		if s.lastGap.CompareAndSwap(last, at) {
			return relay.Position{Micros: at, Mark: rand.Uint64()}
		}
	}
}

// soon returns the time up to which events of other nodes may have been published until now.
func (s *Store) soon(newest int64) int64 {
	return max(s.now().UnixMicro(), newest) + relay.HistorySlack
}

// byHost splits groups by their hosts.
func (s *Store) byHost(groups []string) map[*host][]string {
	split := map[*host][]string{}
	for _, g := range groups {
		h := s.host(g)
		split[h] = append(split[h], g)
	}
	return split
}

// Joined implements [relay.History]. Events from before are the layer's business.
func (s *Store) Joined(groups []string) { s.setMember(groups, true) }

// Left implements [relay.History].
func (s *Store) Left(groups []string) { s.setMember(groups, false) }

func (s *Store) setMember(groups []string, member bool) {
	for h, list := range s.byHost(groups) {
		h.mu.Lock()
		for _, name := range list {
			if g := h.group(name); g != nil {
				g.member, g.used = member, s.now()
				if member && g.ageAt.IsZero() { // Events may be left of nodes that have gone.
					g.ageAt = g.used.Add(g.limits.Age)
				}
				if !member {
					g.expireAt = time.Time{} // this node may end before the next renewal is due
				}
			}
		}
		h.mu.Unlock()
	}
}

// Trouble describes in a line why the history is not kept at the moment; empty if it is.
func (s *Store) Trouble() string {
	for _, h := range s.hosts {
		if err := h.trouble.Load(); err != nil {
			return "history of redis " + s.ring.Route(h.index).Addr() + ": " + (*err).Error()
		}
	}
	return ""
}
