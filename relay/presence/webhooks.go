package presence

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// Webhook is a URL of the site that is called about groups.
type Webhook interface {
	// ID identifies the webhook on all nodes, such as a hash of its URL: 1 to 64 letters and digits.
	ID() string
	// Send sends calls in order, and returns nil if the site has taken them all. A later attempt sends the same calls
	// again, perhaps with more.
	Send(ctx context.Context, calls []Call) error
}

const (
	// callsMax is the number of calls in a request.
	callsMax = 100
	// callsPoll is the time between two looks into a queue without a sign of a new call. Another node may have died.
	callsPoll = 5 * time.Second
	// sendTimeout bounds a request. It is shorter than the right to send lasts.
	sendTimeout = 10 * time.Second
	// Pauses after a failed request.
	sendPauseMin = time.Second
	sendPauseMax = time.Minute
)

// webhooks sends the calls in the queues of the store.
type webhooks struct {
	tracker *Tracker

	mu      sync.Mutex // guards all below
	senders map[string]*sender
}

// sender sends the calls of a webhook, with a goroutine for each shard.
type sender struct {
	stop context.CancelFunc
	wake []chan struct{} // by shard

	mu      sync.Mutex // guards all below
	webhook Webhook
	trouble string // why the last request failed
	since   time.Time
}

func (w *webhooks) init(t *Tracker) { w.tracker, w.senders = t, map[string]*sender{} }

// kick has the queues of a shard sent.
func (w *webhooks) kick(shard int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.senders {
		select {
		case s.wake[shard] <- struct{}{}:
		default:
		}
	}
}

// SetWebhooks replaces the webhooks. Calls of others stay in the store's queues for nodes that have them.
func (t *Tracker) SetWebhooks(list []Webhook) {
	w := &t.calls
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := map[string]bool{}
	for _, hook := range list {
		id := hook.ID()
		wanted[id] = true
		if s := w.senders[id]; s != nil {
			s.mu.Lock()
			s.webhook = hook
			s.mu.Unlock()
			continue
		}
		w.senders[id] = t.newSender(hook)
	}
	maps.DeleteFunc(w.senders, func(id string, s *sender) bool {
		if !wanted[id] {
			s.stop()
		}
		return !wanted[id]
	})
}

func (t *Tracker) newSender(hook Webhook) *sender {
	s := &sender{webhook: hook}
	ctx, cancel := context.WithCancel(t.ctx)
	s.stop = cancel
	for i := range t.shards {
		s.wake = append(s.wake, make(chan struct{}, 1))
		t.tasks.Go(func() { t.sendCalls(ctx, s, hook.ID(), i) })
	}
	return s
}

// sendCalls sends the calls in a queue until ctx ends.
func (t *Tracker) sendCalls(ctx context.Context, s *sender, id string, shard int) {
	pause := sendPauseMin
	for {
		sent, err := t.sendSome(ctx, s, id, shard)
		wait, wake := callsPoll, s.wake[shard]
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait, wake = pause/2+rand.N(pause), nil
			pause = min(2*pause, sendPauseMax)
		case sent:
			pause = sendPauseMin
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// sendSome sends the first calls in a queue, and reports whether there were any.
func (t *Tracker) sendSome(ctx context.Context, s *sender, id string, shard int) (sent bool, err error) {
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	calls, err := t.store.TakeCalls(asking, shard, t.node, id, callsMax)
	if err != nil || len(calls) == 0 {
		return false, err
	}
	s.mu.Lock()
	hook := s.webhook
	s.mu.Unlock()
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err = hook.Send(sending, calls)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	s.note(t, err)
	if err != nil {
		t.stats.callsFailed.Add(1)
		return false, err
	}
	t.stats.callsSent.Add(uint64(len(calls)))
	deleting, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return true, t.store.DeleteCalls(deleting, shard, id, calls)
}

// note logs changes of a webhook's state.
func (s *sender) note(t *Tracker, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text != "" && s.trouble == "":
		s.since = time.Now()
		t.log.Warn("presence webhook fails, retrying", "error", err,
			"remedy", "see the site's log; docs/presence.md describes the response that is expected")
	case text == "" && s.trouble != "":
		t.log.Info("presence webhook recovered", "duration", time.Since(s.since).Round(time.Second))
	}
	s.trouble = text
}
