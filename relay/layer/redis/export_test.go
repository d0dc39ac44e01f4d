package redis

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Crash ends a Broker as kill -9 does: it leaves everything in Redis.
func (b *Broker) Crash() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	for _, l := range b.links {
		l.interrupt()
	}
	b.running.Wait()
	b.hosts.Close()
}

// SetBeat makes a Broker that is not started yet notice deaths sooner.
func (b *Broker) SetBeat(every, lasts, missing time.Duration) {
	b.beats.times = beatTimes{every, lasts, missing}
}

// Suspects is how many messages the first host is watched for, because they may come again.
func (b *Broker) Suspects() int {
	r := b.links[0].replays
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.suspect)
}

// IndexOfTwo is the host that keeps value, of a ring of two.
func IndexOfTwo(value string) int { return redisnet.RingIndex(value, 2) }

// Notified reports whether a host tells of changes by itself.
func (b *Broker) Notified(host int) bool { return b.links[host].notified() }

// EndBatchesAtFormer has the first link take messages now, and find none behind them at a former master.
func (b *Broker) EndBatchesAtFormer(sink relay.Sink) {
	l := &link{broker: b, receiver: b.links[0].receiver, more: true, handled: drainMost, waited: drainMost}
	b.sink, l.reading.took = sink, time.Now()
	l.atFormer().readAll(true)
}
