package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// undecodableLogInterval is the time between log lines about undecodable messages.
const undecodableLogInterval = 10 * time.Minute

// health has counters and losses to report. The plain fields are guarded by Broker.mu.
type health struct {
	ok         bool
	since      time.Time
	reconnects uint64
	seen       map[string]bool // addresses that were connected before
	gaps       uint64
	gap        string        // the last gap
	back       []string      // groups after an interruption that is not reported yet
	longest    time.Duration // the longest such interruption
	late       []string      // groups that were joined after clients had been answered
	bad        atomic.Uint64
	healed     atomic.Uint64
	badLogged  atomic.Int64 // when an undecodable message was logged last, in Unix seconds
}

// connected notes that a listener is connected.
func (b *Broker) connected(l *listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.troubles, l.addr)
	if b.health.seen == nil {
		b.health.seen = map[string]bool{}
	}
	if b.health.seen[l.addr] {
		b.health.reconnects++
	}
	b.health.seen[l.addr] = true
}

// undecodable counts a message of another program, and logs a line now and then.
func (b *Broker) undecodable(err error) {
	n, now := b.health.bad.Add(1), time.Now().Unix()
	last := b.health.badLogged.Load()
	due := last == 0 || now-last >= int64(undecodableLogInterval/time.Second)
	if due && b.health.badLogged.CompareAndSwap(last, now) {
		b.log.Warn("undecodable message skipped", "error", err, "reason", "encoding", "count", n,
			"remedy", "look for another program that publishes to channels with this prefix")
	}
}

// trouble describes in a line why the layer is unhealthy; empty if healthy. b.mu is held.
func (b *Broker) trouble() string {
	var wrong []string
	if len(b.known) == 0 {
		err := b.unknown
		if err == nil {
			err = errors.New("not connected yet")
		}
		return fmt.Sprintf("redis cluster %s: %v", strings.Join(b.place.Addresses, ", "), err)
	}
	for addr := range b.known {
		l := b.listeners[addr]
		switch err := b.troubles[addr]; {
		case err != nil:
			wrong = append(wrong, fmt.Sprintf("redis %s: %v", addr, err))
		case l != nil:
			if t := l.trouble(); t != "" {
				wrong = append(wrong, fmt.Sprintf("redis %s: %s", addr, t))
			}
		}
	}
	slices.Sort(wrong)
	if n := b.overdue(); n > 0 {
		reason := b.refusal
		if reason == nil {
			reason = b.lastLoss
		}
		wrong = append(wrong, fmt.Sprintf("%d groups are not joined: %v", n, reason))
	}
	return strings.Join(wrong, "; ")
}

// trouble describes why a node is unhealthy; empty if healthy.
func (l *listener) trouble() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.busy && !l.asked.IsZero() && time.Since(l.asked) > answerTimeout:
		return fmt.Sprintf("no answer for %v", time.Since(l.asked).Round(100*time.Millisecond))
	case l.state != "" && l.state != "ok":
		return "cluster_state:" + l.state
	case !l.up:
		return "not connected yet"
	}
	return ""
}

// healthy reports whether the node answers and is in the cluster's majority, as far as it knows.
func (l *listener) healthy() bool { return l.trouble() == "" }

// Health implements [relay.Broker].
func (b *Broker) Health() relay.Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	detail := b.trouble()
	ok := detail == ""
	h := &b.health
	if ok != h.ok {
		h.ok, h.since = ok, time.Now()
	}
	if ok {
		addrs := make([]string, 0, len(b.known))
		for addr := range b.known {
			addrs = append(addrs, addr)
		}
		slices.Sort(addrs)
		detail = "redis cluster " + strings.Join(addrs, ", ")
		if h.gap != "" {
			detail += "; " + h.gap
		}
	}
	return relay.Health{
		OK: ok, Detail: detail, Since: h.since,
		Reconnects: h.reconnects, Gaps: h.gaps, Undecodable: h.bad.Load(), Ignored: b.skipped.Ignored.Load(), Healed: h.healed.Load(),
	}
}

// watchHealth logs every change of health, and reports losses.
func (b *Broker) watchHealth(ctx context.Context) {
	effect := "events of the groups on failed hosts are lost until it recovers"
	redisnet.Watch(ctx, b.log, effect, nil, func() relay.Health {
		state := b.Health()
		b.reportGaps()
		return state
	})
}

// reportGaps reports which groups may have missed events, once they are subscribed again.
func (b *Broker) reportGaps() {
	b.mu.Lock()
	h := &b.health
	back, late, longest := h.back, h.late, h.longest.Round(time.Millisecond)
	h.back, h.late, h.longest = nil, nil, 0
	b.mu.Unlock()
	if len(back) > 0 {
		b.log.Warn("subscriptions interrupted", "count", len(back), "duration", longest)
		b.reportLoss(relay.Loss{Cause: relay.LossInterrupted, Groups: back})
	}
	if len(late) > 0 {
		b.reportLoss(relay.Loss{Cause: relay.LossLateJoin, Groups: late})
	}
}

// reportLoss reports a loss: in the layer's health, and to the sink.
func (b *Broker) reportLoss(l relay.Loss) {
	b.mu.Lock()
	b.health.gaps++
	b.health.gap = l.String() + " before " + time.Now().UTC().Format(time.RFC3339)
	b.mu.Unlock()
	relay.ReportLoss(b.sink, l)
}
