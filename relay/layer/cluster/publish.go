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
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

// A message consists of a byte for its form, the time of sending in microseconds since 1970 (eight bytes, big endian),
// and the text, or the content: [stream.Content].
const (
	formText    = 1
	formContent = 3
	headerSize  = 1 + 8
)

var errForm = errors.New("not a message of this layer")

func encode(now time.Time, content *stream.Content) ([]byte, error) {
	b := make([]byte, headerSize, headerSize+2+len(content.Type)+len(content.Sender)+len(content.Text))
	binary.BigEndian.PutUint64(b[1:], uint64(now.UnixMicro()))
	if content.IsText() {
		b[0] = formText
		return append(b, content.Text...), nil
	}
	b[0] = formContent
	return content.Append(b)
}

// decode returns a message. The text is a part of raw. Messages of groups with history have a number, and another form.
func decode(raw []byte) (stream.Published, error) {
	if stream.HasForm(raw) {
		return stream.Decode(raw)
	}
	if len(raw) <= headerSize || raw[0] != formText && raw[0] != formContent {
		return stream.Published{}, errForm
	}
	p := stream.Published{Sent: time.UnixMicro(int64(binary.BigEndian.Uint64(raw[1:])))}
	if raw[0] == formText {
		p.Text = raw[headerSize:]
		return p, nil
	}
	var err error
	p.Content, err = stream.DecodeContent(raw[headerSize:])
	return p, err
}

const (
	// publishTimeout bounds a Publish without a deadline.
	publishTimeout = 5 * time.Second
	// publishRetryPause is the pause before a command that was not executed is sent again.
	publishRetryPause = 25 * time.Millisecond
)

// channel returns the pub/sub channel of a group.
func (b *Broker) channel(group string) string { return b.place.Prefix + ":" + group }

// PublishMessage implements [relay.MessagePublisher], like [Broker.Publish].
func (b *Broker) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	text, err := asgi.Object(&m)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", m.Group, err)
	}
	return b.publish(ctx, m.Group, stream.Content{Type: m.Type, Sender: m.Sender, Text: text})
}

// Publish implements [relay.Broker]. A command that was certainly not executed, such as after a slot has moved, is
// retried until ctx ends, and for five seconds at most. A command that may have been executed is not retried.
func (b *Broker) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	return b.publish(ctx, group, stream.Content{Text: text})
}

func (b *Broker) publish(ctx context.Context, group string, content stream.Content) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	if !utf8.Valid(content.Text) || len(content.Text) == 0 {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: the text is empty or not UTF-8", group)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	sent := time.Now()
	for {
		n, err := b.send(ctx, group, content, sent)
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
func (b *Broker) send(ctx context.Context, group string, content stream.Content, sent time.Time) (int64, error) {
	channel := b.channel(group)
	node, err := b.client.MasterForKey(ctx, channel)
	if err != nil {
		return 0, errNoNode{err}
	}
	if h := b.history.Load(); h != nil {
		if limits, ok := h.Limits(group); ok {
			n, taken, err := h.Publish(ctx, node, group, limits, content, sent)
			if taken || err != nil {
				return n, err
			}
		}
	}
	raw, err := encode(sent, &content)
	if err != nil {
		return 0, err
	}
	return node.SPublish(ctx, channel, raw).Result()
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
