package cluster

import "github.com/edgerelay/edgerelay/relay"

// message receives an event of a group. With a history, its number tells whether it is the next one.
func (l *listener) message(channel, raw []byte) {
	b := l.broker
	if len(channel) <= len(b.place.Prefix) {
		return
	}
	message, err := decode(raw)
	b.mu.Lock()
	g := b.groups.Get(string(channel[len(b.place.Prefix)+1:]))
	if g == nil || g.Value.at != l || !g.Wanted() && !b.closing {
		b.mu.Unlock()
		return
	}
	what := deliver
	if h := b.historyOf(g.Key); h == nil {
		message.Position, g.Value.progress = relay.Position{}, progress{}
	} else if !message.Position.IsZero() {
		h.Note(message.Position)
		what = g.Value.progress.next(message)
	}
	b.mu.Unlock()
	switch {
	case err != nil:
		b.undecodable(err)
	case what == fill:
		l.flush(false) // before the events from the stream
		b.mu.Lock()
		b.fillLater(g)
		b.mu.Unlock()
	case what == deliver && b.takes(message.Type):
		l.events = append(l.events, relay.Event{
			Group: g.Key, Type: message.Type, Sender: message.Sender, Text: message.Text, NeedsRelay: true,
			Sent: message.Sent, Position: message.Position,
		})
		l.flush(true)
	}
}
