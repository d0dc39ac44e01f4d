package redis

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// How messages leave the channel key: it is renamed to the node's in-flight key, at once and whole, and read from there in
// batches. No message is ever outside Redis and unread, emitters have their whole capacity again, and
// nobody can insert below what has been read. What is in flight and handled is dropped with the next batch, or replaced by the next renaming. All in plain
// commands: of what a script changes, Redis would notify the connection that called it.

const (
	// drainMost is how many messages are read in one round trip; fewer when they are large.
	drainMost = 512
	// drainBytes is how large a batch may grow before the next one is made smaller.
	drainBytes = 4 << 20
	// latestScore is the last score that is taken for a time, in seconds: some in the year 9892.
	latestScore = 2.5e11
	// pollEvery is the pace where Redis cannot notify (before version 6).
	pollEvery = 25 * time.Millisecond
)

// step reads what waits, or waits for something to read.
func (l *link) step(conn *resp.Conn) error {
	switch {
	case l.probing, l.refused && time.Since(l.tried) >= redisnet.ProbeEvery: // there may be traffic all the same
		return l.probe(conn)
	case l.woken && !l.stuck:
		return l.drain(conn)
	}
	quiet := redisnet.ProbeEvery
	if !l.notified() {
		quiet = pollEvery
	}
	if err := conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		return err
	}
	if l.isFinishing() { // looked at after setting the deadline, so that interrupt is never missed
		l.woken = true
		return nil
	}
	err := conn.Wait()
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		if conn.Buffered() > 0 {
			return resp.ErrProtocol // a notification that stops in the middle
		}
		l.probing = true // a net below the notifications, and a sign of life
		return l.tidy(conn)
	}
	return err
}

// drain reads one batch and delivers it.
func (l *link) drain(conn *resp.Conn) error {
	key, inflight := l.channelKey(), l.inflightKey()
	// From here on a notification counts, even one that comes between the two replies: its message may have come after the renaming.
	l.woken = false
	read := []string{"ZRANGE", inflight, "0", strconv.Itoa(l.most - 1), "WITHSCORES"}
	l.broker.health.Asked(l.host)
	wasUnsure := l.unsure
	l.unsure = true
	var err error
	first := []string{"RENAME", key, inflight}
	if l.more {
		first = []string{"ZREMRANGEBYRANK", inflight, "0", strconv.Itoa(l.handled - 1)}
	}
	renamed := false
	if wasUnsure { // look before anything is changed
		err = conn.SendAll(redisnet.ReplyWait, read)
	} else if err = conn.SendAll(redisnet.ReplyWait, first, read); err == nil {
		_, err = conn.Reply()
		renamed = err == nil && !l.more
		var refused resp.Error
		switch errors.As(err, &refused); {
		case strings.HasPrefix(string(refused), "ERR no such key"):
			err = nil
		case wrongReply(refused): // as is the reply to read, which is looked at
			err = nil
		case takesNone(refused): // what waits can wait; a new connection would be no better
			_, err = conn.Reply()
			l.unsure, l.stuck, l.woken, l.probing = false, true, true, true
			return err
		}
	}
	if err != nil {
		return err
	}
	batch, err := conn.Reply()
	if errors.As(err, new(resp.Error)) && wrongReply(err) {
		return l.heal(conn)
	}
	if err != nil {
		return err
	}
	l.broker.health.Answered(l.host)
	l.looked()
	l.unsure = false
	known := l.handled > 0 && len(batch) > 0 && bytes.Equal(batch[0], l.first)
	switch {
	case wasUnsure && known: // delivered before the connection broke; there may be others behind, and in the channel key
		l.more, l.woken = true, true
		return nil
	case !wasUnsure && !l.more && !renamed, len(batch) == 0:
		// Nothing was waiting. What is in flight, if anything, is handled.
		l.woken = l.woken || l.more || wasUnsure
		if l.more {
			l.readAll(true)
		}
		l.more = false
		if !l.woken && !l.former {
			l.replays.over()
			l.emptied()
		}
		return nil
	}
	l.handled = len(batch) / 2
	l.more = l.handled == l.most
	l.woken = l.woken || l.more || wasUnsure
	l.first = bytes.Clone(batch[0])
	if renamed || wasUnsure {
		l.waited = 0
		l.reading.took = time.Now()
	}
	if l.waited += l.handled; int64(l.waited) > l.broker.peak.Load() {
		l.broker.peak.Store(int64(l.waited))
	}
	l.deliver(batch)
	if !l.more { // clients are told of losses after what came before
		l.readAll(false)
	}
	if renamed && !l.more && !l.former {
		l.replays.over()
	}
	return nil
}

// tidy drops what is in flight and handled, now that it is quiet. If this node dies, others take what is there for
// unread.
func (l *link) tidy(conn *resp.Conn) error {
	if l.handled == 0 || l.more || l.unsure || l.stuck || l.former {
		return nil
	}
	l.broker.health.Asked(l.host)
	_, err := conn.Do(redisnet.ReplyWait, "ZREMRANGEBYRANK", l.inflightKey(), "0", strconv.Itoa(l.handled-1))
	refused := errors.As(err, new(resp.Error)) // the next renaming does it
	if err != nil && !refused {
		return err
	}
	l.broker.health.Answered(l.host)
	if !refused {
		l.handled, l.first = 0, nil
	}
	return nil
}

// wrongReply reports whether a command of a link failed since its key holds another type.
func wrongReply(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// heal deletes what is in flight: something else has been put into one of the node's own keys. Nothing is known of
// what was there before.
func (l *link) heal(conn *resp.Conn) error {
	if _, err := conn.Do(redisnet.ReplyWait, "DEL", l.inflightKey()); err != nil {
		return err
	}
	l.broker.health.Answered(l.host)
	l.broker.healed(l.host, l.inflightKey())
	l.lost(relay.LossMailboxReplaced)
	l.unsure, l.more, l.handled, l.first = false, false, 0, nil
	l.woken = true // there may be messages in the channel key
	return nil
}

// deliver decodes a batch, pairs of message and score, and hands it on.
func (l *link) deliver(batch [][]byte) {
	l.events = l.events[:0]
	size := 0
	codec := &l.broker.settings.Load().codec
	for i := 0; i+1 < len(batch); i += 2 {
		size += len(batch[i])
		if l.replays.seen(batch[i]) {
			continue
		}
		m, err := codec.Decode(batch[i])
		if err != nil {
			l.broker.skipped.NotUnderstood(l.broker.log, err)
			continue
		}
		l.events = l.appendEvents(l.events, m, batch[i+1])
	}
	if size > drainBytes {
		l.most = max(1, l.most/2)
	} else if l.most < drainMost {
		l.most = min(drainMost, 2*l.most)
	}
	if len(l.events) > 0 {
		l.sink.Deliver(l.events)
		clear(l.events)
	}
}

// appendEvents makes events of a message: one for each of our groups that it is addressed to.
func (l *link) appendEvents(events []relay.Event, m asgi.Message, score []byte) []relay.Event {
	ev, ok := m.Event()
	if !ok {
		l.broker.skipped.Ignore(l.broker.log, m.Type)
		return events
	}
	if s, err := strconv.ParseFloat(string(score), 64); err == nil && 0 < s && s < latestScore {
		ev.Sent = time.UnixMicro(int64(s * 1e6))
	}
	for _, channel := range m.Channels {
		local, ok := strings.CutPrefix(channel, l.receiver)
		if !ok {
			continue
		}
		if ev.Group, ok = l.broker.members.group(local); ok {
			events = append(events, ev)
		}
	}
	return events
}

func (l *link) isFinishing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finishing != nil && !l.finished
}

// emptied notes that nothing waits any more, for finish.
func (l *link) emptied() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finishing != nil && !l.finished {
		l.finished = true
		close(l.finishing)
	}
}

// finish waits until all that is in the channel key has been delivered. Groups must have been left before.
func (l *link) finish(ctx context.Context) error {
	l.mu.Lock()
	if l.finishing == nil {
		l.finishing = make(chan struct{})
	}
	done := l.finishing
	l.mu.Unlock()
	l.interrupt()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
