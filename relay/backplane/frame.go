package backplane

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Groups with a special meaning.
const (
	// broadcastGroup holds, in each node's layer, copies of all events for peers of the broadcast dialect, and the
	// subscriptions that web nodes announce to task nodes.
	broadcastGroup = "broadcast-group_send"
	// metricsGroup carries metrics of AWX's subsystems from node to node.
	metricsGroup = "metrics"
	// ownPrefix begins groups that relays use among themselves.
	ownPrefix = "edgerelay."
)

// internalMessage is the type of a message that holds an event.
const internalMessage = "internal.message"

// fault is the reason for dropping input of a peer. It is a metric's label and an error.
type fault string

const (
	faultTooLarge  fault = "too_large"
	faultBroken    fault = "broken_frame"
	faultGroup     fault = "invalid_group"
	faultUTF8      fault = "invalid_utf8"
	faultType      fault = "unknown_type"
	faultLimit     fault = "too_many_groups"
	faultSource    fault = "not_asked_for"
	faultSameLayer fault = "same_layer"
	faultQueue     fault = "queue_full"
	faultExpired   fault = "expired"
	faultLink      fault = "link_lost"
	faultDouble    fault = "already_received"
)

// Error describes the fault.
func (f fault) Error() string { return strings.ReplaceAll(string(f), "_", " ") }

// checkGroup rejects groups for which no peer may send events.
func checkGroup(group string) error {
	if !relay.ValidGroup(group) || group == broadcastGroup {
		return faultGroup
	}
	return nil
}

// decodeBroadcast reads a frame of the broadcast dialect: {"group": "…", "message": "<payload>"}.
func decodeBroadcast(b []byte) (ev relay.Event, err error) {
	if !utf8.Valid(b) {
		return ev, faultUTF8
	}
	var f struct {
		Group   string  `json:"group"`
		Message *string `json:"message"`
		Sender  string  `json:"edgerelay_sender"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Message == nil {
		return ev, faultBroken
	}
	return peerEvent(f.Group, *f.Message, f.Sender), checkGroup(f.Group)
}

// peerEvent returns an event of a Python node. The sender of a relay behind the node carries the hops of plugins alone.
func peerEvent(group, text, sender string) relay.Event {
	return relay.Event{
		Group: group, Text: []byte(text), Sender: relay.HopSender(relay.SenderHops(sender)), Source: relay.FromPeer,
	}
}

// appendHops writes the member with the hops of an event that a plugin has made. Python nodes ignore the member, and
// relays read it: without it, plugins on two nodes could make events of each other's for ever.
// See docs/decisions/functions.md#how-do-loops-of-plugins-that-publish-end
func appendHops(dst []byte, sender string) []byte {
	if relay.SenderHops(sender) == 0 {
		return dst
	}
	return pyjson.AppendString(append(dst, `, "`+relay.SenderMember+`": `...), sender)
}

// groupOf finds the group of a broadcast frame as written by Python, without decoding the payload.
func groupOf(b []byte) (group string, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"group": "`))
	if !ok {
		rest, ok = bytes.CutPrefix(b, []byte(`{"group":"`))
	}
	if !ok {
		return "", false
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 || end > relay.MaxGroupName {
		return "", false
	}
	return string(rest[:end]), relay.ValidGroup(string(rest[:end]))
}

// appendBroadcast writes a frame of the broadcast dialect as Python does.
func appendBroadcast(dst []byte, group, sender string, text []byte) []byte {
	dst = pyjson.AppendString(append(dst, `{"group": `...), group)
	dst = pyjson.AppendString(append(dst, `, "message": `...), string(text))
	return append(appendHops(dst, sender), '}')
}

// relayFrame is a frame of the relay dialect, in either direction.
type relayFrame struct {
	// From a task node.
	Group   string `json:"group"`
	Message *struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Sender string `json:"edgerelay_sender"`
	} `json:"message"`
	// From a web node.
	Type   string   `json:"type"`
	Groups []string `json:"groups"`
	Origin string   `json:"origin_channel"`
}

func decodeRelay(b []byte) (f relayFrame, err error) {
	if !utf8.Valid(b) {
		return f, faultUTF8
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, faultBroken
	}
	return f, nil
}

// event extracts the event of a task node's frame.
func (f relayFrame) event() (ev relay.Event, err error) {
	switch {
	case f.Message == nil:
		return ev, faultBroken
	case f.Message.Type != internalMessage:
		return ev, faultType
	}
	return peerEvent(f.Group, f.Message.Text, f.Message.Sender), checkGroup(f.Group)
}

// appendRelay writes an event as AWX's wsrelay does.
func appendRelay(dst []byte, group, sender string, text []byte) []byte {
	dst = pyjson.AppendString(append(dst, `{"group": `...), group)
	dst = append(dst, `, "message": {"type": "`+internalMessage+`", "text": `...)
	return append(appendHops(pyjson.AppendString(dst, string(text)), sender), `}}`...)
}

// appendSubscription writes the message with which a web node subscribes at a task node. kind is subscribe or
// unsubscribe.
func appendSubscription(dst []byte, kind string, groups []string, origin string) []byte {
	dst = append(dst, `{"type": "consumer.`+kind+`", "groups": `...)
	dst = pyjson.AppendStrings(dst, groups)
	dst = pyjson.AppendString(append(dst, `, "origin_channel": `...), origin)
	return append(dst, '}')
}

// appendBatched writes an event of an edgerelay.v1 batch: lengths as uvarints before group and text.
func appendBatched(dst []byte, group string, text []byte) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(group))), group...)
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// decodeBatch reads a batch of events. The texts are slices of b. Invalid events are skipped, and bad is called
// with the reason. After broken framing the rest of the batch is unreadable.
func decodeBatch(b []byte, events []relay.Event, bad func(fault)) []relay.Event {
	next := func() ([]byte, bool) {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, false
		}
		part := b[size : size+int(n)]
		b = b[size+int(n):]
		return part, true
	}
	for len(b) > 0 {
		group, ok := next()
		if !ok {
			bad(faultBroken)
			return events
		}
		text, ok := next()
		switch {
		case !ok:
			bad(faultBroken)
			return events
		case checkGroup(string(group)) != nil:
			bad(faultGroup)
		case !utf8.Valid(text):
			bad(faultUTF8)
		default:
			events = append(events, relay.Event{Group: string(group), Text: text, Source: relay.FromPeer})
		}
	}
	return events
}
