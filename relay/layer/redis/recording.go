package redis

import (
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// slowDelivery is how long the sink may take for a batch before another goroutine writes the batch to the history: the
// messages in flight expire.
const slowDelivery = 5 * time.Second

// recording holds the delivered events that are not known to be in the history yet. Their messages are in flight, in
// Redis: the commands that write the events travel before the command that drops or overwrites these messages.
// See docs/decisions/history.md#why-is-an-event-always-in-a-mailbox-or-in-the-history
type recording struct {
	decoding sync.Mutex // held from the look at the wanted groups until the events are noted

	mu         sync.Mutex    // guards the fields below; the reading goroutine alone changes them
	unwritten  []relay.Event // delivered, or being delivered
	since      time.Time     // when the oldest of them was read
	delivering time.Time     // when the delivery in progress began; zero: none
	spilled    bool          // another goroutine has taken the delivery in progress
}

// add notes events that are about to be delivered.
func (u *recording) add(batches ...[]relay.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for _, events := range batches {
		for i := range events {
			if !events[i].Position.IsZero() {
				if len(u.unwritten) == 0 {
					u.since = now
				}
				u.unwritten = append(u.unwritten, events[i])
			}
		}
	}
	u.delivering, u.spilled = now, false
}

// delivered notes the end of a delivery.
func (u *recording) delivered() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.delivering = time.Time{}
}

// written forgets the events.
func (u *recording) written() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.unwritten)
	u.unwritten = u.unwritten[:0]
}

// pending returns the unwritten events of some groups.
func (u *recording) pending(groups map[string]bool) (events []relay.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.unwritten {
		if groups[u.unwritten[i].Group] {
			events = append(events, u.unwritten[i])
		}
	}
	return events
}

// settled returns the unwritten events of groups that are not wanted any more: no further one follows.
func (u *recording) settled(groups map[string]bool) (events []relay.Event) {
	u.decoding.Lock() // Waits for a batch that was begun while they were wanted.
	defer u.decoding.Unlock()
	return u.pending(groups)
}

// overdue returns the unwritten events, once, if their delivery takes long.
func (u *recording) overdue(now time.Time) (events []relay.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.delivering.IsZero() || u.spilled || now.Sub(u.delivering) < slowDelivery {
		return nil
	}
	u.spilled = true
	return append(events, u.unwritten...)
}

// recordCommands returns the commands that write the unwritten events; none without a history.
func (r *reader) recordCommands() [][]string {
	if len(r.recording.unwritten) == 0 {
		return nil
	}
	h := r.broker.history.Load()
	if h == nil {
		r.recording.written()
		return nil
	}
	clear(r.commands)
	r.commands = h.Commands(r.commands[:0], r.recording.unwritten)
	return r.commands
}

// recorded takes the replies to the commands of recordCommands. The events were delivered: a failed write is a gap in
// the history, and not repeated.
func (r *reader) recorded(replies []error) {
	if len(replies) == 0 {
		return
	}
	if h := r.broker.history.Load(); h != nil {
		h.Wrote(r.recording.unwritten, replies)
	}
	r.recording.written()
}

// sendRecorded sends the commands that write the unwritten events and then a command, and returns the error of the
// latter.
func (r *reader) sendRecorded(conn *resp.Conn, command ...string) error {
	record := r.recordCommands()
	if err := conn.SendAll(redisnet.ReplyTimeout, append(record, command)...); err != nil {
		return err
	}
	replies, err := recordReplies(conn, len(record))
	if err != nil {
		return err
	}
	_, err = conn.Reply()
	var refused resp.Error
	if errors.As(err, &refused) && rejectsWrites(refused) {
		return err // Nothing was dropped: the events are written later.
	}
	if err == nil || refused != "" {
		r.recorded(replies)
	}
	return err
}

// recordReplies reads the replies to n commands that write events. Error replies are no errors of the connection.
func recordReplies(conn *resp.Conn, n int) (replies []error, err error) {
	for range n {
		_, err := conn.Reply()
		if err != nil && !errors.As(err, new(resp.Error)) {
			return nil, err
		}
		replies = append(replies, err)
	}
	return replies, nil
}

// tidyDue reports whether delivered events must be written now, although notifications about groups keep the
// connection from being quiet.
func (r *reader) tidyDue() bool {
	return r.mailbox.phase == idle && len(r.recording.unwritten) > 0 && !r.former &&
		time.Since(r.recording.since) >= redisnet.ProbeInterval
}
