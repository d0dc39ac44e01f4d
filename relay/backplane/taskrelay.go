package backplane

import (
	"context"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

// rememberWait is how long it is remembered what a web node wanted: it does not say so again when it is dialled again.
const rememberWait = time.Minute

// remembered is what a Python web node wanted when the connection to it was lost.
type remembered struct {
	wants map[string]map[string]struct{}
	lost  time.Time
}

// serveTask serves a Python task node of AWX 22 or later that has dialled this one: it sends the events
// of the groups that this node's clients want.
func (l *link) serveTask() error {
	l.startProbing()
	l.receive = func(_ websocket.MessageType, b []byte) error {
		f, err := decodeRelay(b)
		if err == nil {
			var group string
			var text []byte
			if group, text, err = f.event(); err == nil {
				l.take(group, text)
				return nil
			}
		}
		l.fault(err.(fault))
		return nil
	}
	l.b.spawn(func() {
		l.queue.say(appendSubscription(nil, "subscribe", []string{l.verdict.probe}, l.origin()))
		l.findOut(func(ctx context.Context) (bool, error) {
			receipt, err := l.b.publish(ctx, l.verdict.probe, []byte("{}"))
			return receipt.Members > 0, err
		}, func() {
			l.sourceDecided()
			if l.phase() == phaseSameLayer {
				l.unfollow()
			}
		})
		l.queue.say(appendSubscription(nil, "unsubscribe", []string{l.verdict.probe}, l.origin()))
	})
	l.follow()
	defer l.unfollow()
	defer l.sourceGone()
	l.b.spawn(func() {
		for sleep(l.ctx, repeatEvery) {
			l.repeat()
		}
	})
	return l.run()
}

// repeatEvery is how often a task node is told again what clients want. Its producer of a group ends with any error of its Redis, and forgets who wanted the
// group, without a word (awx/main/wsrelay.py); said twice, a wish counts once.
const repeatEvery = 30 * time.Second

// repeat tells a task node everything that clients want.
func (l *link) repeat() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		l.subscribe(i.list(), nil)
	}
}

// origin is the channel name under which this node's wishes are counted by a task node.
func (l *link) origin() string { return "specific." + strings.ToLower(l.b.id) + "!backplane" }

// follow tells a task node everything that clients want, and from now on every change.
func (l *link) follow() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	l.subscribe(i.list(), nil)
	i.tasks[l] = struct{}{}
}

// unfollow ends that, and takes back what was told.
func (l *link) unfollow() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		delete(i.tasks, l)
		l.subscribe(nil, i.list())
	}
}

// subscribe tells a task node of changes. interest.mu is held.
func (l *link) subscribe(joined, left []string) {
	for _, change := range []struct {
		kind   string
		groups []string
	}{{"unsubscribe", left}, {"subscribe", joined}} {
		for some, rest := cut(change.groups); len(some) > 0; some, rest = cut(rest) {
			l.queue.say(appendSubscription(nil, change.kind, some, l.origin()))
		}
	}
}

// feedWeb serves a Python web node of AWX 22 or later that this node has dialled: it is sent the groups that it asks for,
// as AWX's wsrelay does beside a task node.
func (l *link) feedWeb() error {
	l.startProbing()
	l.send = func(events []*event) error {
		for _, e := range events {
			e.once.Do(func() { e.frame = appendRelay(nil, e.group, e.text) })
			if err := l.write(websocket.MessageText, e.frame); err != nil {
				return err
			}
		}
		return nil
	}
	l.receive = func(_ websocket.MessageType, b []byte) error {
		f, err := decodeRelay(b)
		if err != nil {
			l.fault(err.(fault))
			return nil
		}
		switch f.Type {
		case "consumer.subscribe":
			l.count(f.Groups, f.Origin)
		case "consumer.unsubscribe":
			l.uncount(f.Groups, f.Origin)
		default: // wrapped copies for nodes of the other generation, which wsrelay ignores too
		}
		return nil
	}
	l.b.spawn(func() {
		defer l.listenProbe()()
		sent := false
		l.findOut(func(context.Context) (bool, error) {
			if !sent {
				sent = true
				l.queue.say(appendRelay(nil, l.verdict.probe, []byte("{}")))
			}
			return false, nil
		}, func() {})
	})
	l.count([]string{metricsGroup}, "")
	l.recall()
	defer l.remember()
	defer l.move(signalEnded)
	return l.run()
}

// count notes that a channel of the web node wants groups; the first one of a group joins it.
func (l *link) count(groups []string, origin string) {
	var join []string
	l.wantsMu.Lock()
	for _, g := range groups {
		origins, ok := l.wants[g]
		switch {
		case len(origin) > maxIdentity || l.origins >= maxWants:
			l.fault(faultLimit)
			continue
		case ok:
			if _, had := origins[origin]; !had {
				l.origins++
			}
			origins[origin] = struct{}{}
			continue
		case !relay.ValidGroup(g) || g == broadcastGroup || strings.HasPrefix(g, ownPrefix):
			l.fault(faultGroup)
			continue
		case len(l.wants) >= maxWants:
			l.fault(faultLimit)
			continue
		}
		l.wants[g] = map[string]struct{}{origin: {}}
		l.origins++
		join = append(join, g)
	}
	l.wantsMu.Unlock()
	l.b.tap.add(l, join)
}

// uncount notes that a channel of the web node no longer wants groups; the last one of a group leaves it.
func (l *link) uncount(groups []string, origin string) {
	var leave []string
	l.wantsMu.Lock()
	for _, g := range groups {
		if origins, ok := l.wants[g]; ok {
			if _, had := origins[origin]; had {
				l.origins--
			}
			if delete(origins, origin); len(origins) == 0 {
				delete(l.wants, g)
				leave = append(leave, g)
			}
		}
	}
	l.wantsMu.Unlock()
	l.b.tap.remove(l, leave)
}

// remember keeps what the web node wants for the next connection.
func (l *link) remember() {
	l.wantsMu.Lock()
	wants := l.wants
	l.wants, l.origins = map[string]map[string]struct{}{}, 0
	l.wantsMu.Unlock()
	l.b.mu.Lock()
	for url, m := range l.b.memory {
		if time.Since(m.lost) > rememberWait {
			delete(l.b.memory, url)
		}
	}
	l.b.memory[l.url] = remembered{wants, time.Now()}
	l.b.mu.Unlock()
}

// recall takes up what the web node wanted when the connection was lost a moment ago.
func (l *link) recall() {
	l.b.mu.Lock()
	m, ok := l.b.memory[l.url]
	delete(l.b.memory, l.url)
	l.b.mu.Unlock()
	if !ok || time.Since(m.lost) > rememberWait {
		return
	}
	for g, origins := range m.wants {
		for origin := range origins {
			l.count([]string{g}, origin)
		}
	}
}
