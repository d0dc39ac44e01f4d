package pluginhost

import (
	"context"
	"sync"
	"sync/atomic"
)

// MessageStats counts the messages of a plugin.
type MessageStats struct {
	// Published went to the channel layer, Failed did not, and QueueFull were dropped because too many waited for it.
	Published, Failed, QueueFull uint64
	// MailboxFull counts the full mailboxes of members: these members did not get a published message.
	MailboxFull uint64
}

// sentCounters are the counters of MessageStats, and the progress of a plugin's messages in the queue.
type sentCounters struct {
	published, failed, queueFull, mailboxFull atomic.Uint64
	// queued counts the messages that were ever queued.
	queued atomic.Uint64

	mu sync.Mutex // guards the fields below
	// finished counts the queued messages that have been published, or could not be.
	finished uint64
	// changed is closed when finished changes. It is nil while nothing waits for that.
	changed chan struct{}
}

// finish counts a queued message that has been published, or could not be.
func (c *sentCounters) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished++
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// await waits until a number of queued messages are finished.
func (c *sentCounters) await(ctx context.Context, number uint64) error {
	for {
		c.mu.Lock()
		if c.finished >= number {
			c.mu.Unlock()
			return nil
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sentMessages has the counters of plugins, by name. Its methods are safe for concurrent use.
type sentMessages struct{ counters sync.Map }

// of returns the counters of a plugin.
func (s *sentMessages) of(plugin string) *sentCounters {
	c, ok := s.counters.Load(plugin)
	if !ok {
		c, _ = s.counters.LoadOrStore(plugin, &sentCounters{})
	}
	return c.(*sentCounters)
}

// Messages returns the counts of the messages of a plugin.
func (h *Host) Messages(plugin string) MessageStats {
	c := h.sent.of(plugin)
	return MessageStats{c.published.Load(), c.failed.Load(), c.queueFull.Load(), c.mailboxFull.Load()}
}
