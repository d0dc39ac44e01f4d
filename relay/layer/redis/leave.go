package redis

import (
	"context"
	"time"
)

// finishMax bounds the reading of a mailbox that stays: messages keep coming.
const finishMax = 2 * time.Second

// outliveMin is how long a membership outlives its node at least, however short the age of the history is: emitters
// must not remove a membership whose messages wait for another node to adopt them, because it tells their group.
const outliveMin = 2 * time.Minute

// stays reports whether this node's mailbox on a host outlives the node: the groups with history there have to be
// received until the successor, or another node, does.
// See docs/decisions/history.md#why-does-a-mailbox-outlive-its-node
func (b *Broker) stays(host int) bool {
	h := b.history.Load()
	return h != nil && len(h.kept(b.members.wantedOn(host))) > 0
}

// outlives returns the score with which a membership stays although this node ends: emitters remove the membership
// once the group's history has ended.
func (r *reconciler) outlives(name string, now time.Time) (score float64, stays bool) {
	b := r.members.broker
	h := b.history.Load()
	if h == nil {
		return 0, false
	}
	r.members.mu.Lock()
	closed := r.members.closed
	r.members.mu.Unlock()
	limits, ok := h.Limits(name)
	if !ok || !closed {
		return 0, false
	}
	ends := now.Add(max(limits.Age, outliveMin) - b.settings.Load().GroupExpiry)
	return max(float64(ends.UnixMicro())/1e6, 1), true
}

// endHost leaves the groups of a host that have no history, and delivers the messages that wait. What comes later is
// for the successor.
func (b *Broker) endHost(ctx context.Context, host int) error {
	if err := b.members.hosts[host].leaveAll(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, finishMax)
	defer cancel()
	_ = b.readers[host].finish(ctx)
	return nil
}

// leaveBehind prepares the mailbox of a host that stays, after its reader has ended: delivered messages go to the
// history and are no longer in flight. The last beat says since when the mailbox has been unread.
func (b *Broker) leaveBehind(ctx context.Context, host int) error {
	r, h := b.readers[host], b.history.Load()
	if h != nil && len(r.recording.unwritten) > 0 {
		if err := h.Add(ctx, host, r.recording.unwritten); err != nil {
			return err
		}
		r.recording.written()
	}
	pipe := b.hosts.Client(host).Pipeline()
	if m := &r.mailbox; m.delivered > 0 && (m.phase == idle || m.phase == ready || m.phase == partial) {
		pipe.ZRemRangeByRank(ctx, r.inflightKey(), 0, int64(m.delivered-1))
	}
	b.beats.setBeat(ctx, pipe, host)
	_, err := pipe.Exec(ctx)
	return err
}
