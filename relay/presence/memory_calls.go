package presence

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// memoryQueue is the queue of a webhook.
type memoryQueue struct {
	calls  []Call
	sender string
	until  time.Time // of the sender's right
}

// call adds entries to the queue of the member's webhook: for the user, and for the group if it has so many members.
func (m *Memory) call(c *Changed, user, group string, key Key, member *memoryMember, members int) {
	if member.policy.Webhook == "" {
		return
	}
	n := len(m.groups[key.Group])
	var types []string
	if member.policy.WebhookUsers {
		types = append(types, user)
	}
	if n == members {
		types = append(types, group)
	}
	if group == "occupied" {
		slices.Reverse(types)
	}
	q := m.queues[member.policy.Webhook]
	if q == nil {
		q = &memoryQueue{}
		m.queues[member.policy.Webhook] = q
	}
	for _, t := range types {
		m.calls++
		id := m.epoch + "-" + strconv.FormatUint(m.calls, 10)
		q.calls = append(q.calls, Call{ID: id, Type: t, Key: key, Info: member.info, Count: n, Time: m.now()})
		c.Queued++
	}
	if over := len(q.calls) - m.times.QueueMax; over > 0 {
		q.calls = slices.Clone(q.calls[over:])
		c.Dropped += over
	}
}

// TakeCalls implements [Store].
func (m *Memory) TakeCalls(_ context.Context, _ int, node, webhook string, limit int) ([]Call, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now := m.queues[webhook], m.now()
	if q == nil || q.sender != node && now.Before(q.until) {
		return nil, nil
	}
	q.sender, q.until = node, now.Add(m.times.Lease)
	return slices.Clone(q.calls[:min(limit, len(q.calls))]), nil
}

// DeleteCalls implements [Store].
func (m *Memory) DeleteCalls(_ context.Context, _ int, webhook string, calls []Call) error {
	sent := make(map[string]bool, len(calls))
	for _, c := range calls {
		sent[c.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.queues[webhook]; q != nil {
		q.calls = slices.DeleteFunc(q.calls, func(c Call) bool { return sent[c.ID] })
	}
	return nil
}
