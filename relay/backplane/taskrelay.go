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
	peerGroups map[string]map[string]struct{}
	lost       time.Time
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
				l.receiveEvent(group, text)
				return nil
			}
		}
		l.fault(err.(fault))
		return nil
	}
	l.b.spawn(func() {
		l.queue.pushControl(appendSubscription(nil, "subscribe", []string{l.verdict.probe}, l.originChannel()))
		l.runProbe(func(ctx context.Context) (bool, error) {
			receipt, err := l.b.publish(ctx, l.verdict.probe, []byte("{}"))
			return receipt.Members > 0, err
		}, func() {
			l.resumeSource()
			if l.phase() == phaseSameLayer {
				l.stopInterest()
			}
		})
		l.queue.pushControl(appendSubscription(nil, "unsubscribe", []string{l.verdict.probe}, l.originChannel()))
	})
	l.startInterest()
	defer l.stopInterest()
	defer l.endSource()
	l.b.spawn(func() {
		for sleep(l.ctx, repeatEvery) {
			l.repeatInterest()
		}
	})
	return l.run()
}

// repeatEvery is how often a task node is told again what clients want. Its producer of a group ends with any error of its Redis, and forgets who wanted the
// group, without a word (awx/main/wsrelay.py); said twice, a wish counts once.
const repeatEvery = 30 * time.Second

// repeat tells a task node everything that clients want.
func (l *link) repeatInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		l.sendSubscription(i.list(), nil)
	}
}

// origin is the channel name under which this node's wishes are counted by a task node.
func (l *link) originChannel() string { return "specific." + strings.ToLower(l.b.id) + "!backplane" }

// follow tells a task node everything that clients want, and from now on every change.
func (l *link) startInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	l.sendSubscription(i.list(), nil)
	i.tasks[l] = struct{}{}
}

// unfollow ends that, and takes back what was told.
func (l *link) stopInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		delete(i.tasks, l)
		l.sendSubscription(nil, i.list())
	}
}

// subscribe tells a task node of changes. interest.mu is held.
func (l *link) sendSubscription(joined, left []string) {
	for _, change := range []struct {
		kind   string
		groups []string
	}{{"unsubscribe", left}, {"subscribe", joined}} {
		for some, rest := splitGroups(change.groups); len(some) > 0; some, rest = splitGroups(rest) {
			l.queue.pushControl(appendSubscription(nil, change.kind, some, l.originChannel()))
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
			l.addOrigin(f.Groups, f.Origin)
		case "consumer.unsubscribe":
			l.removeOrigin(f.Groups, f.Origin)
		default: // wrapped copies for nodes of the other generation, which wsrelay ignores too
		}
		return nil
	}
	l.b.spawn(func() {
		defer l.listenProbe()()
		sent := false
		l.runProbe(func(context.Context) (bool, error) {
			if !sent {
				sent = true
				l.queue.pushControl(appendRelay(nil, l.verdict.probe, []byte("{}")))
			}
			return false, nil
		}, func() {})
	})
	l.addOrigin([]string{metricsGroup}, "")
	l.recallGroups()
	defer l.rememberGroups()
	defer l.move(signalEnded)
	return l.run()
}

// count notes that a channel of the web node wants groups; the first one of a group joins it.
func (l *link) addOrigin(groups []string, origin string) {
	var join []string
	l.groupsMu.Lock()
	for _, g := range groups {
		origins, ok := l.peerGroups[g]
		switch {
		case len(origin) > maxIdentity || l.origins >= maxPeerGroups:
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
		case len(l.peerGroups) >= maxPeerGroups:
			l.fault(faultLimit)
			continue
		}
		l.peerGroups[g] = map[string]struct{}{origin: {}}
		l.origins++
		join = append(join, g)
	}
	l.groupsMu.Unlock()
	l.b.tap.add(l, join)
}

// uncount notes that a channel of the web node no longer wants groups; the last one of a group leaves it.
func (l *link) removeOrigin(groups []string, origin string) {
	var leave []string
	l.groupsMu.Lock()
	for _, g := range groups {
		if origins, ok := l.peerGroups[g]; ok {
			if _, had := origins[origin]; had {
				l.origins--
			}
			if delete(origins, origin); len(origins) == 0 {
				delete(l.peerGroups, g)
				leave = append(leave, g)
			}
		}
	}
	l.groupsMu.Unlock()
	l.b.tap.remove(l, leave)
}

// remember keeps what the web node wants for the next connection.
func (l *link) rememberGroups() {
	l.groupsMu.Lock()
	peerGroups := l.peerGroups
	l.peerGroups, l.origins = map[string]map[string]struct{}{}, 0
	l.groupsMu.Unlock()
	l.b.mu.Lock()
	for url, m := range l.b.memory {
		if time.Since(m.lost) > rememberWait {
			delete(l.b.memory, url)
		}
	}
	l.b.memory[l.url] = remembered{peerGroups, time.Now()}
	l.b.mu.Unlock()
}

// recall takes up what the web node wanted when the connection was lost a moment ago.
func (l *link) recallGroups() {
	l.b.mu.Lock()
	m, ok := l.b.memory[l.url]
	delete(l.b.memory, l.url)
	l.b.mu.Unlock()
	if !ok || time.Since(m.lost) > rememberWait {
		return
	}
	for g, origins := range m.peerGroups {
		for origin := range origins {
			l.addOrigin([]string{g}, origin)
		}
	}
}
