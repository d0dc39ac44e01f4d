package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/stream"
)

// A message consists of a byte for its form, the time of sending in microseconds since 1970 (eight bytes, big endian),
// and the text.
const (
	formText   = 1
	headerSize = 1 + 8
)

var errForm = errors.New("not a message of this layer")

func encode(now time.Time, text []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(text))
	b[0] = formText
	binary.BigEndian.PutUint64(b[1:], uint64(now.UnixMicro()))
	return append(b, text...)
}

// decode returns a message. The text is a part of raw. Messages of groups with history have a number, and another form.
func decode(raw []byte) (stream.Published, error) {
	if len(raw) > 0 && raw[0] == stream.Form {
		return stream.Decode(raw)
	}
	if len(raw) <= headerSize || raw[0] != formText {
		return stream.Published{}, errForm
	}
	sent := time.UnixMicro(int64(binary.BigEndian.Uint64(raw[1:])))
	return stream.Published{Text: raw[headerSize:], Sent: sent}, nil
}

const (
	// publishTimeout bounds a Publish without a deadline.
	publishTimeout = 5 * time.Second
	// publishRetryPause is the pause before a command that was not executed is sent again.
	publishRetryPause = 25 * time.Millisecond
)

// channel returns the pub/sub channel of a group.
func (b *Broker) channel(group string) string { return b.place.Prefix + ":" + group }

// Publish implements [relay.Broker]. A command that was certainly not executed, such as after a slot has moved, is
// retried until ctx ends, and for five seconds at most. A command that may have been executed is not retried.
func (b *Broker) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	if !utf8.Valid(text) || len(text) == 0 {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: the text is empty or not UTF-8", group)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	sent := time.Now()
	for {
		n, err := b.send(ctx, group, text, sent)
		if err == nil {
			return relay.Receipt{Members: int(n)}, nil
		}
		if !notExecuted(err) {
			return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
		}
		b.client.ReloadState(ctx)
		select {
		case <-time.After(publishRetryPause):
		case <-ctx.Done():
			return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
		}
	}
}

// send publishes an event. The history gives the event a number, if the group has a history and Redis takes the event.
func (b *Broker) send(ctx context.Context, group string, text []byte, sent time.Time) (int64, error) {
	channel := b.channel(group)
	node, err := b.client.MasterForKey(ctx, channel)
	if err != nil {
		return 0, errNoNode{err}
	}
	if h := b.history.Load(); h != nil {
		if limits, ok := h.Limits(group); ok {
			n, taken, err := h.Publish(ctx, node, group, limits, text, sent)
			if taken || err != nil {
				return n, err
			}
		}
	}
	return node.SPublish(ctx, channel, encode(sent, text)).Result()
}

// errNoNode is why the node of a slot is unknown.
type errNoNode struct{ error }

func (e errNoNode) Unwrap() error { return e.error }

// notExecuted reports whether a command was certainly not executed, and can be sent again.
func notExecuted(err error) bool {
	var dial *net.OpError
	if errors.As(err, new(errNoNode)) || errors.As(err, &dial) && dial.Op == "dial" {
		return true
	}
	kind, _, _ := strings.Cut(err.Error(), " ")
	switch kind {
	case "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN":
		return true
	}
	return false
}
