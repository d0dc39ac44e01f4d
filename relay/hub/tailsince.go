package hub

import (
	"context"
	"errors"

	"github.com/edgerelay/edgerelay/relay"
)

var errPatternSince = errors.New("a pattern of groups has no history; name a single group")

// Resumed returns how a tail with [TailOptions.Since] began. The replayed events come first.
func (t *Tail) Resumed() relay.Resumed { return t.resumed }

// resume reads the history, and then lets the live events follow.
func (t *Tail) resume(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	since := &pending{sub: &subscription{group: t.group}, resume: t.options.Since}
	w := &wave{hub: t.hub, course: &course{group: t.group}, clients: []*pending{since}}
	w.readAlone(ctx)
	if w.process(ctx); t.options.Raw && w.page.Err == nil {
		w.replay, w.err = w.page.Events, nil
	}
	t.resumed = relay.Resumed{Group: t.group, Asked: since.asks(), Position: w.page.Head, Reason: w.reason(since)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resumed.Reason == nil && (since.asks() || since.latest() > 0) {
		t.replay(w, since)
	}
	t.holds = false
	for i := range t.held {
		t.addLive(&t.held[i])
	}
	t.held = nil
	t.wake()
}

// readAlone reads the history for a wave that no other client joins.
func (w *wave) readAlone(ctx context.Context) {
	group := w.course.group
	w.page.Err = relay.NotRecoveredOff
	history := w.hub.History()
	if history == nil {
		return
	}
	if _, ok := history.Limits(group); !ok {
		return
	}
	w.incomplete = w.hub.incomplete(group)
	w.page.Err = relay.NotRecoveredUnavailable
	if pages := history.Read(ctx, []relay.HistoryQuery{w.query()}); len(pages) == 1 {
		w.page = pages[0]
	}
	w.incomplete = w.incomplete || w.hub.incomplete(group)
}

// replay queues the events of the history. t.mu is held.
func (t *Tail) replay(w *wave, since *pending) {
	t.known.indexes = map[relay.Position]int{}
	first := 0
	if since.asks() {
		first = w.first(since)
		t.known.listed = listedOf(since.resume.After)
	}
	type shown struct {
		ev   *relay.Event
		text []byte
	}
	var replayed []shown
	for i := range w.replay {
		ev := &w.replay[i]
		at, ok := w.pageIndexes()[ev.Position.Entry()]
		if ev.Group != t.group || !ok || at < first || t.known.lists(ev.Position) {
			continue
		}
		if text, ok := t.textOf(ev); ok {
			replayed = append(replayed, shown{ev, text})
		}
	}
	if n := since.latest(); n > 0 {
		replayed = replayed[max(len(replayed)-n, 0):]
		t.known.page = w.pageIndexes()
	}
	for _, r := range replayed {
		t.queueEvent(r.ev, r.text)
		t.known.indexes[r.ev.Position.Entry()] = 0
	}
	t.events.Add(uint32(len(replayed)))
	t.resumed.Events = len(replayed)
}
