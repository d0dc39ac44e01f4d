package pluginhost

import (
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

// sentCounters are the counters of MessageStats.
type sentCounters struct{ published, failed, queueFull, mailboxFull atomic.Uint64 }

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
