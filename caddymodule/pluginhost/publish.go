package pluginhost

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxPublishing bounds the messages of plugins that wait for the channel layer. Further ones are dropped.
	maxPublishing  = 4096
	publishTimeout = 5 * time.Second
)

// message is a message of a plugin that has no client, such as that of on_event.
type message struct {
	plugin string
	relay.Message
	// reached makes this a mark instead of a message: it is closed when the messages before it have been published.
	reached chan<- struct{}
}

func published(a *plugins.Action) relay.Message {
	return relay.Message{Group: a.Group, Type: a.Type, Text: a.Payload, Sender: relay.HopSender(a.Hops)}
}

// enqueue queues a message for the channel layer. The pipeline calls it, and must not wait.
func (h *Host) enqueue(plugin string, a *plugins.Action) {
	select {
	case h.messages <- message{plugin: plugin, Message: published(a)}:
	default:
		h.sent.of(plugin).queueFull.Add(1)
		h.log.Warn("plugin's message dropped: too many wait for the channel layer", "plugin", plugin, "group", a.Group)
	}
}

// sendMessages publishes the queued messages, in order, until the host is closed.
func (h *Host) sendMessages() {
	for {
		select {
		case m := <-h.messages:
			if m.reached != nil {
				close(m.reached)
				continue
			}
			ctx, cancel := context.WithTimeout(h.closing, publishTimeout)
			if err := h.Publish(ctx, m.plugin, m.Message); err != nil {
				h.log.Warn("plugin's message not published", "plugin", m.plugin, "group", m.Group, "error", err)
			}
			cancel()
		case <-h.closing.Done():
			return
		}
	}
}

// Publish publishes a message of a plugin. A full mailbox is no error: the other members of the group get the message.
func (h *Host) Publish(ctx context.Context, plugin string, m relay.Message) error {
	receipt, err := h.hub.PublishMessage(ctx, m)
	count := h.sent.of(plugin)
	if err != nil {
		count.failed.Add(1)
		return err
	}
	count.published.Add(1)
	if receipt.OverCapacity > 0 {
		count.mailboxFull.Add(uint64(receipt.OverCapacity))
		h.log.Warn("plugin's message dropped by full mailboxes", "plugin", plugin, "group", m.Group,
			"count", receipt.OverCapacity,
			"remedy", "publish less, or raise capacity in the channel layer; check for members that read too slowly")
	}
	return nil
}

// Alarm has a plugin process an alarm, and publishes the plugin's messages before it returns: an alarm that ended sooner
// would lose them if the node died in between. They follow the messages that the plugin has published before. After an
// error, also one of the channel layer, the alarm fires again.
func (h *Host) Alarm(ctx context.Context, plugin, name string, payload []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	first := true
	return h.Pipeline.Alarm(ctx, plugin, name, payload, func(a *plugins.Action) error {
		if first {
			if err := h.awaitQueued(ctx); err != nil {
				return err
			}
			first = false
		}
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return h.Publish(ctx, plugin, published(a))
	})
}

// awaitQueued waits until the queued messages have been published, or could not be.
func (h *Host) awaitQueued(ctx context.Context) error {
	reached := make(chan struct{})
	select {
	case h.messages <- message{reached: reached}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
