package webhttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// MaxItems is the greatest number of items in a publish request. The client library pubcontrol sends 10 at most.
const MaxItems = 1000

// Item is an item of a publish request of GRIP.
type Item struct {
	// Channel is the GRIP channel; see [Item.Group].
	Channel string
	// ID and PrevID are the item's place in the channel as the publisher counts, or empty.
	ID, PrevID string
	// Formats are "ws-message" for WebSockets, and "http-stream" and "http-response" for held responses. Each is a JSON
	// object.
	Formats map[string]json.RawMessage
	// Meta are the values that filters of subscribers compare.
	Meta map[string]string
}

// formatNames are the formats of an item, in the order of the published message.
var formatNames = []string{formatWebSocket, formatStream, formatResponse}

// The names of formats.
const (
	formatWebSocket = "ws-message"
	formatStream    = "http-stream"
	formatResponse  = "http-response"
)

// Group is the group of the item's channel.
func (it *Item) Group() string { return Group(it.Channel) }

// Message returns the message of type [ItemType] that carries the item in its group.
func (it *Item) Message() (relay.Message, error) {
	b := []byte{'{'}
	add := func(name string, value any) error {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if len(b) > 1 {
			b = append(b, ", "...)
		}
		b = append(append(append(b, '"'), name...), `": `...)
		b = append(b, text...)
		return nil
	}
	var err error
	if it.ID != "" {
		err = errors.Join(err, add("id", it.ID))
	}
	if it.PrevID != "" {
		err = errors.Join(err, add("prev-id", it.PrevID))
	}
	if len(it.Meta) > 0 {
		err = errors.Join(err, add("meta", it.Meta))
	}
	for _, name := range formatNames {
		if f := it.Formats[name]; f != nil {
			err = errors.Join(err, add(name, f))
		}
	}
	return relay.Message{Group: it.Group(), Type: ItemType, Text: append(b, '}')}, err
}

// wireItem is an item in a request. Publishers write the formats into "formats" or beside the channel.
type wireItem struct {
	Channel  *string                    `json:"channel"`
	ID       string                     `json:"id"`
	PrevID   string                     `json:"prev-id"`
	Meta     map[string]string          `json:"meta"`
	Formats  map[string]json.RawMessage `json:"formats"`
	Message  json.RawMessage            `json:"ws-message"`
	Stream   json.RawMessage            `json:"http-stream"`
	Response json.RawMessage            `json:"http-response"`
}

// ParsePublish parses the body of a publish request: a JSON object with the list "items". The caller bounds the body.
// An error names the item and the remedy; no item may be published then.
func ParsePublish(body []byte) ([]Item, error) {
	var request struct {
		Items []json.RawMessage `json:"items"`
	}
	if !utf8.Valid(body) {
		return nil, errors.New("publish: the body is not UTF-8; send JSON")
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf(`publish: %w; send a JSON object such as {"items": [{"channel": …, "formats": {…}}]}`, err)
	}
	if request.Items == nil {
		return nil, errors.New(`publish: the list "items" is missing; send {"items": [{"channel": …, "formats": {…}}]}`)
	}
	if len(request.Items) > MaxItems {
		return nil, fmt.Errorf("publish: %d items; send %d at most", len(request.Items), MaxItems)
	}
	items := make([]Item, len(request.Items))
	for i, raw := range request.Items {
		it, err := parseItem(raw)
		if err != nil {
			return nil, fmt.Errorf("publish: item %d: %w", i, err)
		}
		items[i] = it
	}
	return items, nil
}

func parseItem(raw json.RawMessage) (it Item, err error) {
	var w wireItem
	if err := json.Unmarshal(raw, &w); err != nil {
		return it, err
	}
	if w.Channel == nil || *w.Channel == "" {
		return it, errors.New("channel is missing; name one")
	}
	it = Item{Channel: *w.Channel, ID: w.ID, PrevID: w.PrevID, Meta: w.Meta, Formats: map[string]json.RawMessage{}}
	beside := map[string]json.RawMessage{formatWebSocket: w.Message, formatStream: w.Stream, formatResponse: w.Response}
	for _, name := range formatNames {
		f := w.Formats[name]
		if w.Formats == nil {
			f = beside[name]
		}
		if f == nil || bytes.Equal(f, []byte("null")) {
			continue
		}
		if f[0] != '{' {
			return it, fmt.Errorf("format %s is not an object", name)
		}
		it.Formats[name] = f
	}
	if len(it.Formats) == 0 {
		return it, errors.New("no format; add ws-message, http-stream or http-response")
	}
	return it, it.check()
}

// check checks the formats.
func (it *Item) check() (err error) {
	if f := it.Formats[formatWebSocket]; f != nil {
		if _, err = parseMessageFormat(f); err != nil {
			return err
		}
	}
	if f := it.Formats[formatStream]; f != nil {
		if _, err = parseStreamFormat(f); err != nil {
			return err
		}
	}
	if f := it.Formats[formatResponse]; f != nil {
		_, err = parseResponseFormat(f)
	}
	return err
}

// action is the action of a ws-message.
type action uint8

const (
	actionSend    action = iota
	actionClose          // closes the connections of the channel
	actionRefresh        // makes the connections of the channel ask the backend
	actionHint           // has no meaning for WebSockets
)

// messageFormat is a ws-message.
type messageFormat struct {
	action  action
	kind    kind
	content []byte
	// filtered is set if the publisher names the filters that have changed the content.
	filtered bool
	filters  []string
	code     int // of actionClose; 0: none
	reason   string
}

// wireFormat is a ws-message in a request.
type wireFormat struct {
	Action     string    `json:"action"`
	Type       string    `json:"type"`
	Content    *string   `json:"content"`
	ContentBin *string   `json:"content-bin"`
	Filters    *[]string `json:"content-filters"`
	Code       *int      `json:"code"`
	Reason     string    `json:"reason"`
}

// maxReason is the greatest length of a close reason in bytes (RFC 6455 section 5.5).
const maxReason = 123

func parseMessageFormat(raw []byte) (m messageFormat, err error) {
	var w wireFormat
	if err := json.Unmarshal(raw, &w); err != nil {
		return m, fmt.Errorf("ws-message: %w", err)
	}
	switch w.Action {
	case "", "send":
		return m, w.readContent(&m)
	case "close":
		m.action, m.reason = actionClose, cutReason(w.Reason)
		if w.Code != nil {
			m.code = *w.Code
		}
		if !validCode(m.code) && m.code != 0 {
			return m, fmt.Errorf("ws-message: close code %d does not exist; use 1000 or 3000 to 4999", m.code)
		}
	case "refresh":
		m.action = actionRefresh
	case "hint":
		m.action = actionHint
	default:
		return m, fmt.Errorf("ws-message: unknown action %q; use send, close or refresh", w.Action)
	}
	return m, nil
}

// readContent reads the content of the action send.
func (w *wireFormat) readContent(m *messageFormat) (err error) {
	if m.filtered = w.Filters != nil; m.filtered {
		m.filters = *w.Filters
	}
	known := true
	switch {
	case w.ContentBin != nil:
		if m.content, err = base64.StdEncoding.DecodeString(*w.ContentBin); err != nil {
			return fmt.Errorf("ws-message: content-bin: %w", err)
		}
		m.kind = kindBinary
	case w.Content != nil:
		m.content = []byte(*w.Content)
	default:
		known = false
	}
	if w.Type != "" {
		var ok bool
		if m.kind, ok = kindNamed(w.Type); !ok {
			return fmt.Errorf("ws-message: unknown type %q; use text, binary, ping or pong", w.Type)
		}
	}
	switch {
	case !known && m.kind.isData():
		return errors.New("ws-message: content is missing; add content or content-bin")
	case m.kind == kindText && !utf8.Valid(m.content):
		return errors.New("ws-message: content-bin of the type text is not UTF-8; use the type binary")
	case !m.kind.isData() && len(m.content) > maxControl:
		return fmt.Errorf("ws-message: a ping or pong has %d bytes at most", maxControl)
	}
	return nil
}

// cutReason shortens a close reason to the length that a close frame can carry, and removes invalid UTF-8.
func cutReason(reason string) string {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	for !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	return reason
}

// validCode reports whether the relay may send a close code (RFC 6455 section 7.4).
func validCode(code int) bool {
	switch code {
	case 1004, 1005, 1006:
		return false
	}
	return 1000 <= code && code <= 1014 || 3000 <= code && code <= 4999
}
