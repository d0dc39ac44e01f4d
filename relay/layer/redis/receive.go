package redis

import (
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

const (
	// latestScore is the last score that is taken for a time, in seconds: some day in the year 9892.
	latestScore = 2.5e11
	// pollInterval is the pace where Redis does not notify (before version 6).
	pollInterval = 25 * time.Millisecond
)

// step probes, reads messages, or waits for a reason to.
func (r *reader) step(conn *resp.Conn) error {
	switch {
	case r.writes.due(): // There may be traffic even if the host rejects writes.
		return r.probe(conn)
	case r.mailbox.readable():
		return r.receive(conn)
	case r.tidyDue():
		return r.tidy(conn)
	}
	return r.wait(conn)
}

// wait waits for a notification, and then probes: a safety net below the notifications, and a sign of life.
func (r *reader) wait(conn *resp.Conn) error {
	quiet := redisnet.ProbeInterval
	if !r.notified() {
		quiet = pollInterval
	}
	if err := conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		return err
	}
	// Checked after the deadline is set, so that interrupt is never missed.
	if r.mailbox.phase == idle && r.isFinishing() {
		r.mailbox.happen(notified)
		return nil
	}
	err := conn.Wait()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		return err
	}
	if conn.Buffered() > 0 {
		return resp.ErrProtocol // a notification that stops in the middle
	}
	if err := r.tidy(conn); err != nil {
		return err
	}
	return r.probe(conn)
}

// errRejected means that the host rejects writes.
var errRejected = errors.New("the host rejects writes")

// receive reads one batch and delivers it.
// See docs/decisions/layers.md#why-is-the-mailbox-drained-by-rename
func (r *reader) receive(conn *resp.Conn) error {
	change, read := r.mailbox.begin(r.channelKey(), r.inflightKey())
	r.broker.health.Asked(r.host)
	record := r.recordCommands()
	wrote, renamed, batch, err := exchange(conn, record, change, read)
	if len(wrote) == len(record) && !errors.Is(err, errRejected) {
		r.recorded(wrote)
	}
	switch {
	case err == nil:
	case errors.Is(err, errRejected): // Messages can wait, and a new connection would be no better.
		r.mailbox.happen(writesRejected)
		r.writes.rejected = true
		return nil
	case errors.As(err, new(resp.Error)) && wrongReply(err):
		return r.heal(conn)
	default:
		return err
	}
	r.broker.health.Answered(r.host)
	if r.mailbox.phase != looking { // else only the messages in flight were looked at
		r.looked()
	}
	found := r.mailbox.end(renamed, batch)
	if found.deliver {
		if found.first {
			r.losses.took = time.Now()
		}
		if n := int64(r.mailbox.taken); n > r.broker.peak.Load() {
			r.broker.peak.Store(n)
		}
		r.deliver(batch)
	}
	if found.last { // Clients are told of losses after the events that came before.
		r.readAll(found.gone)
	}
	if found.settled && !r.former {
		r.replays.over()
		if !found.deliver {
			r.emptied()
		}
	}
	return nil
}

// exchange sends the commands of one exchange, with those that write events first. It returns the replies to these,
// whether the channel key was renamed, and the reply to read.
func exchange(conn *resp.Conn, record [][]string, change, read []string) (
	wrote []error, renamed bool, batch [][]byte, err error,
) {
	if change == nil {
		err = conn.SendAll(redisnet.ReplyTimeout, append(record, read)...)
	} else {
		err = conn.SendAll(redisnet.ReplyTimeout, append(record, change, read)...)
	}
	if err == nil {
		wrote, err = recordReplies(conn, len(record))
	}
	if err != nil {
		return nil, false, nil, err
	}
	if change != nil {
		if _, err = conn.Reply(); err == nil {
			renamed = change[0] == "RENAME"
		} else if err = unchanged(conn, err); err != nil {
			return wrote, false, nil, err
		}
	}
	batch, err = conn.Reply()
	return wrote, renamed, batch, err
}

// unchanged classifies the error of a command that changes keys. Without a message, the error is nil.
func unchanged(conn *resp.Conn, err error) error {
	var refused resp.Error
	switch errors.As(err, &refused); {
	case strings.HasPrefix(string(refused), "ERR no such key"), wrongReply(refused):
		return nil // The reply to read tells of a key of another type.
	case rejectsWrites(refused):
		if _, err = conn.Reply(); err == nil {
			err = errRejected
		}
	}
	return err
}

// tidy drops the delivered messages in flight during a quiet time. If this node dies, other nodes count the rest
// as unread.
func (r *reader) tidy(conn *resp.Conn) error {
	if r.mailbox.delivered == 0 || r.mailbox.phase != idle || r.former {
		return nil
	}
	r.broker.health.Asked(r.host)
	last := strconv.Itoa(r.mailbox.delivered - 1)
	err := r.sendRecorded(conn, "ZREMRANGEBYRANK", r.inflightKey(), "0", last)
	refused := errors.As(err, new(resp.Error)) // The next RENAME drops them.
	if err != nil && !refused {
		return err
	}
	r.broker.health.Answered(r.host)
	if !refused {
		r.mailbox.dropped()
	}
	return nil
}

// wrongReply reports whether a command failed because its key holds another type.
func wrongReply(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// heal deletes an in-flight key of another type, which another program has written. Messages in flight are lost.
func (r *reader) heal(conn *resp.Conn) error {
	if err := r.sendRecorded(conn, "DEL", r.inflightKey()); err != nil {
		return err
	}
	r.broker.health.Answered(r.host)
	r.broker.healed(r.host, r.inflightKey())
	r.lost(relay.LossMailboxReplaced)
	r.mailbox.dropped()
	r.mailbox.happen(healed)
	return nil
}

// deliver decodes a batch, pairs of message and score, and hands its events to the sink.
func (r *reader) deliver(batch [][]byte) {
	r.events = r.events[:0]
	size := 0
	codec, messages := &r.broker.settings.Load().codec, r.broker.messages.Load()
	r.recording.decoding.Lock()
	for i := 0; i+1 < len(batch); i += 2 {
		size += len(batch[i])
		if r.replays.seen(batch[i]) {
			continue
		}
		m, err := codec.Decode(batch[i], messages)
		if err != nil {
			r.undecoded(m, err)
			continue
		}
		r.events = r.appendEvents(r.events, m, batch[i+1])
	}
	r.mailbox.resize(size)
	r.record()
	r.recording.decoding.Unlock()
	if len(r.events) > 0 {
		r.sink.Deliver(r.events)
		clear(r.events)
	}
	r.recording.delivered()
}

// undecoded counts a message that cannot be decoded. Its groups may be known.
func (r *reader) undecoded(m asgi.Message, err error) {
	r.broker.skipped.Undecoded(r.broker.log, err)
	if !errors.Is(err, asgi.ErrObject) {
		return
	}
	l := relay.Loss{Cause: relay.LossUndecodable, Events: 1}
	for _, channel := range m.Channels {
		if local, ok := strings.CutPrefix(channel, r.receiver); ok {
			if group, _ := r.broker.members.group(local); group != "" {
				l.Groups = append(l.Groups, group)
			}
		}
	}
	if len(l.Groups) > 0 {
		relay.ReportLoss(r.sink, l)
	}
}

// record notes which events of a batch have to be written to the history.
func (r *reader) record() {
	h := r.broker.history.Load()
	switch {
	case h == nil:
		return
	case r.former: // The history of a former master ends with the master.
		h.Later(r.events)
		h.Later(r.left)
	default:
		r.recording.add(r.events, r.left)
		r.events = r.broker.members.receive(r.events, live)
	}
	clear(r.left)
	r.left = r.left[:0]
}

// appendEvents appends the events of a message: an event for each group of this node among the receivers.
func (r *reader) appendEvents(events []relay.Event, m asgi.Message, score []byte) []relay.Event {
	ev, ok := m.Event()
	if !ok {
		r.broker.skipped.Ignore(r.broker.log, m.Type)
		return events
	}
	if s, err := strconv.ParseFloat(string(score), 64); err == nil && 0 < s && s < latestScore {
		ev.Sent = time.UnixMicro(int64(s * 1e6))
	}
	h := r.broker.history.Load()
	for _, channel := range m.Channels {
		local, ok := strings.CutPrefix(channel, r.receiver)
		if !ok {
			continue
		}
		var wanted bool
		if ev.Group, wanted = r.broker.members.group(local); ev.Group == "" {
			continue
		}
		if h != nil {
			ev.Position = h.identify(&ev, score)
		}
		if wanted {
			events = append(events, ev)
		} else if !ev.Position.IsZero() {
			r.left = append(r.left, ev)
		}
	}
	return events
}
