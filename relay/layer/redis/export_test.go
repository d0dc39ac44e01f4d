package redis

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Crash ends a Broker as kill -9 does: it leaves everything in Redis.
func (b *Broker) Crash() {
	b.life.Close()
	stopped := b.life.Stop()
	for _, r := range b.readers {
		r.interrupt()
	}
	<-stopped
	b.hosts.Close()
}

// SetBeat makes a Broker that is not started yet notice deaths sooner.
func (b *Broker) SetBeat(every, lasts, missing time.Duration) {
	b.beats.fixed = beatTimes{every, lasts, missing}
}

// Suspects is how many messages the first host is watched for, because they may come again.
func (b *Broker) Suspects() int {
	r := b.readers[0].replays
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.suspect)
}

// IndexOfTwo is the host that keeps value, of a ring of two.
func IndexOfTwo(value string) int { return redisnet.RingIndex(value, 2) }

// Notified reports whether a host tells of changes by itself.
func (b *Broker) Notified(host int) bool { return b.readers[host].notified() }

// EndBatchesAtFormer has the first link take messages now, and find none behind them at a former master.
func (b *Broker) EndBatchesAtFormer(sink relay.Sink) {
	r := &reader{broker: b, receiver: b.readers[0].receiver}
	r.mailbox = mailbox{phase: partial, more: true, delivered: batchMax, taken: batchMax}
	b.sink, r.losses.took = sink, time.Now()
	r.atFormer().readAll(true)
}

// StartWithoutBeats starts a Broker that only places memberships.
func (b *Broker) StartWithoutBeats() error {
	return b.life.Start("redis", func(ctx context.Context) {
		b.ctx = ctx
		for _, r := range b.members.hosts {
			b.life.Go(func() { r.run(ctx) })
		}
	})
}

// Missed returns the times of those events in a dead node's mailbox that clients missed, from the membership in a group
// on.
func (b *Broker) Missed(group, dead string, times ...time.Duration) (missed []time.Duration) {
	b.members.mu.Lock()
	since := b.members.pasts[group].since
	b.members.mu.Unlock()
	for n, age := range times {
		ev := relay.Event{Group: group, Position: relay.Position{Micros: since.Add(age).UnixMicro(), Mark: uint64(n)}}
		if len(b.members.missed([]relay.Event{ev}, dead)) > 0 {
			missed = append(missed, age)
		}
	}
	return missed
}

// CrashWhile ends a Broker as kill -9 does while its sink is in a delivery, which release ends.
func (b *Broker) CrashWhile(release func()) {
	b.life.Close()
	stopped := b.life.Stop()
	release()
	<-stopped
	b.hosts.Close()
}

// Keys returns the channel key and the in-flight key on the first host.
func (b *Broker) Keys() (channel, inflight string) {
	return b.readers[0].channelKey(), b.readers[0].inflightKey()
}

// BeatUnread returns for how long the mailbox of the node with a beat may be unread.
func (b *Broker) BeatUnread(beat string) time.Duration {
	return parseBeat(beat, beatKept, beatKept).behind()
}

// BeatKey returns the key of the beat on the first host.
func (b *Broker) BeatKey() string { return b.beats.beatKey(b.readers[0].receiver) }

// SetHistoryClock sets the clock of a history that is not kept yet.
func (b *Broker) SetHistoryClock(now func() time.Time) { b.now = now }

// SetEmitterLag makes a Broker that is not started yet wait for slow emitters for another time.
func (b *Broker) SetEmitterLag(lag time.Duration) { b.emitterLag = lag }

// MaintainHistory does what is due.
func (b *Broker) MaintainHistory(ctx context.Context) { _ = b.history.Load().Tick(ctx) }
