package pluginhost

import (
	"context"
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxPublishing bounds the messages of plugins that wait for the channel layer. Further ones are dropped.
	maxPublishing  = 4096
	publishTimeout = 5 * time.Second
	// earlierTimeout is the time after which an alarm that waits for the earlier messages of its plugin fails, if the
	// layer has taken no message of any plugin. It is longer than publishTimeout: one message that the layer does not
	// take fails no alarm.
	earlierTimeout = 2 * publishTimeout
)

// message is a message of a plugin that has no client, such as that of on_event.
type message struct {
	plugin string
	count  *sentCounters
	relay.Message
}

func published(a *plugins.Action) relay.Message {
	return relay.Message{Group: a.Group, Type: a.Type, Text: a.Payload, Sender: relay.HopSender(a.Hops)}
}

// enqueue queues a message for the channel layer. The pipeline calls it, and must not wait.
func (h *Host) enqueue(plugin string, a *plugins.Action) {
	count := h.sent.of(plugin)
	if h.queued.Add(1) > maxPublishing {
		h.queued.Add(-1)
		count.queueFull.Add(1)
		h.log.Warn("plugin's message dropped: too many wait for the channel layer", "plugin", plugin, "group", a.Group)
		return
	}
	// The count comes before the message: an alarm that sees the count waits for the message. The channel has room,
	// because h.queued has reserved it.
	count.queued.Add(1)
	h.messages <- message{plugin: plugin, count: count, Message: published(a)}
}

// sendMessages publishes the queued messages, in order, until the host is closed.
func (h *Host) sendMessages() {
	for {
		select {
		case m := <-h.messages:
			h.queued.Add(-1)
			ctx, cancel := context.WithTimeout(h.closing, publishTimeout)
			if err := h.publishCounted(ctx, m.plugin, m.count, m.Message); err != nil {
				h.log.Warn("plugin's message not published", "plugin", m.plugin, "group", m.Group, "error", err)
			}
			cancel()
			m.count.finish()
		case <-h.closing.Done():
			return
		}
	}
}

// Publish publishes a message of a plugin. A full mailbox is no error: the other members of the group get the message.
func (h *Host) Publish(ctx context.Context, plugin string, m relay.Message) error {
	return h.publishCounted(ctx, plugin, h.sent.of(plugin), m)
}

func (h *Host) publishCounted(ctx context.Context, plugin string, count *sentCounters, m relay.Message) error {
	receipt, err := h.hub.PublishMessage(ctx, m)
	if err != nil {
		count.failed.Add(1)
		return err
	}
	count.published.Add(1)
	h.taken.Add(1)
	if receipt.OverCapacity > 0 {
		count.mailboxFull.Add(uint64(receipt.OverCapacity))
		h.log.Warn("plugin's message dropped by full mailboxes", "plugin", plugin, "group", m.Group,
			"count", receipt.OverCapacity,
			"remedy", "publish less, or raise capacity in the channel layer; check for members that read too slowly")
	}
	return nil
}

// Alarm has a plugin process an alarm, and publishes the plugin's messages before it returns: an alarm that ended
// sooner would lose them if the node died in between. They follow the messages that the plugin has published before.
// After an error, also one of the channel layer, the alarm fires again. If the layer takes none of the earlier
// messages, it has published none of its own.
func (h *Host) Alarm(ctx context.Context, plugin, name string, payload []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	count := h.sent.of(plugin)
	first := true
	return h.Pipeline.Alarm(ctx, plugin, name, payload, func(a *plugins.Action) error {
		if first {
			if err := h.awaitEarlier(ctx, count); err != nil {
				return err
			}
			first = false
		}
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		return h.publishCounted(ctx, plugin, count, published(a))
	})
}

// awaitEarlier waits until the messages that a plugin has queued so far have been published, or could not be. It fails
// only while the layer takes no messages: behind many of another plugin, the alarm is late.
func (h *Host) awaitEarlier(ctx context.Context, count *sentCounters) error {
	for number := count.queued.Load(); ; {
		before := h.taken.Load()
		waiting, cancel := context.WithTimeout(ctx, h.earlierTimeout)
		err := count.await(waiting, number)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || h.taken.Load() == before {
			return fmt.Errorf("wait for the plugin's earlier messages in the queue for the channel layer: %w", err)
		}
	}
}
