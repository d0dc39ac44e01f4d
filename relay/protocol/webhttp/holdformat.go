package webhttp

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// HoldFormat is the [relay.Format] of the held clients of a [Backend]. An item reaches them as it is, because ids and
// filters make a difference between them; it is parsed once for all. Other events do not reach them.
type HoldFormat struct {
	parsed   [8]atomic.Pointer[httpItem]
	next     atomic.Uint32
	sweeping atomic.Bool

	mu       sync.RWMutex // guards channels
	channels map[string]*heldChannels
}

// heldChannels is what a node knows of a group with held clients.
type heldChannels struct {
	members int
	// since is the time from which the node has received all items of the group; zero before.
	since time.Time
	// last is the id of the last item with one; empty if there was none.
	last string
}

var _ relay.Format = (*HoldFormat)(nil)

// EndLogin implements [relay.Protocol].
func (f *HoldFormat) EndLogin(s relay.Socket) { s.Close(relay.CloseNormal, "") }

// EncodeChange implements [relay.Protocol].
func (f *HoldFormat) EncodeChange(relay.Change) []byte { return nil }

// AppendEvent implements [relay.Format].
func (f *HoldFormat) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	if ev.Type != ItemType {
		return dst, relay.NoFrame
	}
	payload := append(append(append(dst, ev.Group...), '\n'), text...)
	it := parseHTTPItem(payload[len(dst):])
	if it == nil {
		return dst, relay.NoFrame
	}
	f.record(ev.Group, it.id)
	if it.stream == nil && it.response == nil {
		return dst, relay.NoFrame
	}
	return payload, relay.ClientFrame
}

// enter counts a client of a group, and leave ends that.
func (f *HoldFormat) enter(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.channels == nil {
		f.channels = map[string]*heldChannels{}
	}
	c := f.channels[group]
	if c == nil {
		c = &heldChannels{}
		f.channels[group] = c
	}
	c.members++
}

func (f *HoldFormat) leave(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.channels[group]; c != nil {
		if c.members--; c.members <= 0 {
			delete(f.channels, group)
		}
	}
}

// confirm records that the node receives all items of a group from now on.
func (f *HoldFormat) confirm(group string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.channels[group]; c != nil && c.since.IsZero() {
		c.since = now
	}
}

// record keeps the id of an item.
func (f *HoldFormat) record(group, id string) {
	if id == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.channels[group]; c != nil {
		c.last = id
	}
}

// lastSince returns the id of the last item of a group. known is false unless the node has received all of its items
// since a time.
func (f *HoldFormat) lastSince(group string, t time.Time) (id string, known bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	c := f.channels[group]
	if c == nil || c.since.IsZero() || c.since.After(t) {
		return "", false
	}
	return c.last, true
}

// httpItem is an item that has arrived, for held clients. It does not change.
type httpItem struct {
	// payload is what the item was parsed from, at the time arrived.
	payload    []byte
	arrived    time.Time
	group      string
	id, prevID string
	meta       map[string]string
	stream     *streamFormat
	response   *responseFormat
}

// parseHTTPItem parses a payload of AppendEvent: a group, a line feed, and an item. The result is nil for none.
func parseHTTPItem(payload []byte) *httpItem {
	group, text, _ := bytes.Cut(payload, []byte{'\n'})
	var w struct {
		ID       string            `json:"id"`
		PrevID   string            `json:"prev-id"`
		Meta     map[string]string `json:"meta"`
		Stream   json.RawMessage   `json:"http-stream"`
		Response json.RawMessage   `json:"http-response"`
	}
	if json.Unmarshal(text, &w) != nil {
		return nil
	}
	it := &httpItem{payload: payload, arrived: time.Now(), group: string(group), id: w.ID, prevID: w.PrevID, meta: w.Meta}
	var err error
	if w.Stream != nil {
		if it.stream, err = parseStreamFormat(w.Stream); err != nil {
			return nil
		}
	}
	if w.Response != nil {
		if it.response, err = parseResponseFormat(w.Response); err != nil {
			return nil
		}
	}
	return it
}

// item returns the item of a payload, which all clients of a group share. A parsed item keeps its payload, so that no
// other payload can have the address.
func (f *HoldFormat) item(payload []byte) *httpItem {
	for i := range f.parsed {
		if it := f.parsed[i].Load(); it != nil && &it.payload[0] == &payload[0] && len(it.payload) == len(payload) {
			return it
		}
	}
	it := parseHTTPItem(payload)
	if it != nil {
		f.parsed[f.next.Add(1)%uint32(len(f.parsed))].Store(it)
		f.sweepLater()
	}
	return it
}

// parsedTime is the time after which parsed items leave memory.
const parsedTime = time.Second

// sweepLater forgets all parsed items in a while.
func (f *HoldFormat) sweepLater() {
	if !f.sweeping.Load() && f.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(parsedTime, func() {
			f.sweeping.Store(false)
			for i := range f.parsed {
				f.parsed[i].Store(nil)
			}
		})
	}
}
