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
}

func published(a *plugins.Action) relay.Message {
	return relay.Message{Group: a.Group, Type: a.Type, Text: a.Payload, Sender: relay.HopSender(a.Hops)}
}

// enqueue queues a message for the channel layer. The pipeline calls it, and must not wait.
func (h *Host) enqueue(plugin string, a *plugins.Action) {
	select {
	case h.messages <- message{plugin, published(a)}:
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

// Alarm has a plugin process an alarm, and publishes the plugin's messages before it returns: an alarm that ended
// sooner would lose them if the node died in between. After an error, also one of the channel layer, the alarm fires
// again.
func (h *Host) Alarm(ctx context.Context, plugin, name string, payload []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	return h.Pipeline.Alarm(ctx, plugin, name, payload, func(a *plugins.Action) error {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return h.Publish(ctx, plugin, published(a))
	})
}
