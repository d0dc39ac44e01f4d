package redis

import (
	"context"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// mailboxOf is the mailbox of another node.
type mailboxOf struct {
	receiver string
	node     nodeState
	groups   map[string]string // by channel

	waiting, inflight keyOf
}

// read adds the commands that read the mailbox: first the messages that wait, then those in flight. A message moves in
// this order, and then into the history, so that none is overlooked.
func (m *mailboxOf) read(ctx context.Context, pipe goredis.Cmdable, prefix string) {
	m.waiting.read(ctx, pipe, prefix+m.receiver)
	m.inflight.read(ctx, pipe, inflightKey(prefix, m.receiver))
}

// readNews is read for a mailbox whose earlier contents are known.
func (m *mailboxOf) readNews(ctx context.Context, pipe goredis.Cmdable, prefix string, known *largeKeys) {
	m.waiting.readNews(ctx, pipe, prefix+m.receiver, known)
	m.inflight.readNews(ctx, pipe, inflightKey(prefix, m.receiver), known)
}

// take takes the replies to read or readNews. ok is false if what was known about a key has changed, so that the
// mailbox must be read again as a whole. A key of another type holds no messages.
func (m *mailboxOf) take(known *largeKeys) (ok bool, err error) {
	ok = true
	for _, k := range []*keyOf{&m.waiting, &m.inflight} {
		fits, err := k.take(known)
		if err != nil && !redisnet.WrongType(err) {
			return false, err
		}
		ok = ok && fits
	}
	return ok, nil
}

// lossSince returns the time from which messages may have been lost in the mailbox, zero if none were: emitters drop
// messages at its capacity, and messages expire unread.
func (m *mailboxOf) lossSince(s *inForce, now time.Time) time.Time {
	if m.node.late(s.Expiry) {
		return now.Add(-m.node.behind())
	}
	if waiting := m.waiting.messages; len(waiting) >= s.capacity(m.receiver+"0") {
		return time.UnixMicro(int64(waiting[len(waiting)-1].Score * 1e6))
	}
	return time.Time{}
}

// unread is the content of another node's mailbox.
type unread struct {
	events []relay.Event
	// taken is the number of events, the first ones, that the node had taken: it may have delivered them.
	taken int
	// odd is the number of events whose group is unknown, and of messages that cannot be decoded.
	odd int
	// unkept are the events of groups without a history.
	unkept []relay.Event
}

// unread decodes the messages of a mailbox, except those that were seen before.
func (h *history) unread(m *mailboxOf, seen map[string]bool) (u unread) {
	codec, messages := &h.broker.settings.Load().codec, h.broker.messages.Load()
	for n, list := range [][]goredis.Z{m.inflight.messages, m.waiting.messages} { // the older ones first
		if n == 1 {
			u.taken = len(u.events)
		}
		for _, z := range list {
			raw, _ := z.Member.(string)
			if len(raw) < asgi.RandomPrefix || seen[raw[:asgi.RandomPrefix]] {
				continue
			}
			if seen != nil {
				seen[raw[:asgi.RandomPrefix]] = true
			}
			message, err := codec.Decode([]byte(raw), messages)
			if err != nil {
				u.odd++
				continue
			}
			h.sort(&u, m, message, z.Score)
		}
	}
	return u
}

// sort adds the events of a message.
func (h *history) sort(u *unread, m *mailboxOf, message asgi.Message, score float64) {
	ev, ok := message.Event()
	if !ok || ev.Control != nil {
		return
	}
	text := strconv.AppendFloat(nil, score, 'f', -1, 64)
	ev.Sent = time.UnixMicro(int64(score * 1e6))
	known := false
	for _, channel := range message.Channels {
		if ev.Group, ok = m.groups[channel]; !ok {
			continue
		}
		known = true
		if ev.Position = h.identify(&ev, text); ev.Position.IsZero() {
			u.unkept = append(u.unkept, ev)
		} else {
			u.events = append(u.events, ev)
		}
	}
	if !known {
		u.odd++
	}
}

// addAll stores events, whose groups may be on several hosts.
func (h *history) addAll(ctx context.Context, events []relay.Event) error {
	byHost := map[int][]relay.Event{}
	for i := range events {
		host := h.broker.hosts.Index(events[i].Group)
		byHost[host] = append(byHost[host], events[i])
	}
	for host, events := range byHost {
		if err := h.Add(ctx, host, events); err != nil {
			return err
		}
	}
	return nil
}
