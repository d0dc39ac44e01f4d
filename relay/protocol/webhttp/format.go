package webhttp

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// Format is the [relay.Format] of the connections of a [Backend]. It renders items, and leaves all other events to
// another Format. Clients share the frame of an item, unless an action or a filter makes a difference between them.
type Format struct {
	next relay.Format

	mu       sync.RWMutex // guards filtered
	filtered map[string]int
}

// NewFormat returns a Format. next renders the events of other types; without it, clients get none.
func NewFormat(next relay.Format) *Format { return &Format{next: next} }

var _ relay.Format = (*Format)(nil)

// EndLogin implements [relay.Protocol].
func (f *Format) EndLogin(s relay.Socket) {
	if f.next != nil {
		f.next.EndLogin(s)
		return
	}
	s.Close(relay.CloseNormal, "")
}

// EncodeChange implements [relay.Protocol].
func (f *Format) EncodeChange(change relay.Change) []byte {
	if f.next != nil {
		return f.next.EncodeChange(change)
	}
	return nil
}

// AppendEvent implements [relay.Format].
func (f *Format) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	if ev.Type != ItemType {
		if f.next != nil {
			return f.next.AppendEvent(dst, ev, text)
		}
		return dst, relay.NoFrame
	}
	it, ok := parseDelivery(text)
	if !ok || it.message.action == actionHint {
		return dst, relay.NoFrame
	}
	if it.message.action != actionSend || !it.message.kind.isData() || f.isFiltered(ev.Group) {
		return append(append(append(dst, ev.Group...), '\n'), text...), relay.ClientFrame
	}
	if it.message.filtered && len(it.message.filters) > 0 {
		return dst, relay.NoFrame // for subscribers with these filters only
	}
	if it.message.kind == kindBinary {
		return append(dst, it.message.content...), relay.BinaryFrame
	}
	return append(dst, it.message.content...), relay.TextFrame
}

// countFiltered counts the subscriptions of a group that have filters.
func (f *Format) countFiltered(g groupEntry, change int) {
	if len(g.filters) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.filtered == nil {
		f.filtered = map[string]int{}
	}
	if f.filtered[g.name] += change; f.filtered[g.name] <= 0 {
		delete(f.filtered, g.name)
	}
}

func (f *Format) isFiltered(group string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.filtered[group] > 0
}

// delivery is an item that has arrived.
type delivery struct {
	message messageFormat
	meta    map[string]string
}

// parseDelivery parses the text of an item's event. ok is false if it has nothing for WebSockets.
func parseDelivery(text []byte) (d delivery, ok bool) {
	var item struct {
		Message json.RawMessage   `json:"ws-message"`
		Meta    map[string]string `json:"meta"`
	}
	if json.Unmarshal(text, &item) != nil || item.Message == nil {
		return d, false
	}
	message, err := parseMessageFormat(item.Message)
	return delivery{message, item.Meta}, err == nil
}

// Receive implements [relay.FrameReceiver]: it handles an item that makes a difference between clients.
func (c *Conn) Receive(payload []byte, limit int) bool {
	group, text, _ := bytes.Cut(payload, []byte{'\n'})
	it, ok := parseDelivery(text)
	if !ok {
		return true
	}
	c.mu.Lock()
	content, send := c.passFilters(string(group), &it)
	c.mu.Unlock()
	switch {
	case !send:
		return true
	case it.message.action == actionRefresh:
		c.poll()
	case it.message.action == actionClose:
		code := it.message.code
		if code == 0 {
			code = relay.CloseNormal
		}
		c.Socket.Close(code, it.message.reason)
	case it.message.action == actionSend:
		return c.Send(appendFrame(nil, it.message.kind, content), limit)
	}
	return true
}
