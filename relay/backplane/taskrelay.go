package backplane

import (
	"context"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

// serveTask serves a Python task node of AWX 22 or later that dialed this node. The peer sends events of the groups
// that are subscribed on this node.
func (l *link) serveTask() error {
	l.startProbing()
	l.receive = func(_ websocket.MessageType, b []byte) error {
		f, err := decodeRelay(b)
		if err == nil {
			var ev relay.Event
			if ev, err = f.event(); err == nil {
				l.receiveEvent(ev)
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

// repeatEvery is the time between repetitions of this node's interest. A task node's producer of a group ends with
// any error of its Redis and silently forgets its subscribers (awx/main/wsrelay.py). A repeated subscription counts
// once.
const repeatEvery = 30 * time.Second

// repeatInterest sends all subscribed groups to a task node again.
func (l *link) repeatInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		l.sendSubscription(i.list(), nil)
	}
}

// originChannel is the channel name under which a task node counts this node's subscriptions.
func (l *link) originChannel() string { return "specific." + strings.ToLower(l.b.id) + "!backplane" }

// startInterest sends all subscribed groups to a task node, and then every change.
func (l *link) startInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	l.sendSubscription(i.list(), nil)
	i.tasks[l] = struct{}{}
}

// stopInterest ends these announcements and unsubscribes from all groups.
func (l *link) stopInterest() {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[l]; ok {
		delete(i.tasks, l)
		l.sendSubscription(nil, i.list())
	}
}

// sendSubscription sends changes of interest to a task node. interest.mu is held.
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

// feedWeb serves a Python web node of AWX 22 or later that this node dialed. The peer receives its subscribed
// groups, as from AWX's wsrelay beside a task node.
func (l *link) feedWeb() error {
	l.takeBacklog()
	l.startProbing()
	l.send = func(events []*event) error {
		return l.writeEvents(events, func(e *event) []byte {
			e.once.Do(func() { e.frame = appendRelay(nil, e.group, e.sender, e.text) })
			return e.frame
		})
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
		default: // wrapped copies for the other generation; ignored by wsrelay, too
		}
		return nil
	}
	l.b.spawn(func() {
		defer l.listenProbe()()
		sent := false
		l.runProbe(func(context.Context) (bool, error) {
			if !sent {
				sent = true
				l.queue.pushControl(appendRelay(nil, l.verdict.probe, "", []byte("{}")))
			}
			return false, nil
		}, func() {})
	})
	l.addOrigin([]string{metricsGroup}, "")
	defer l.move(signalEnded)
	return l.run()
}

// addOrigin subscribes a channel of the web node to groups. The first channel of a group joins it.
func (l *link) addOrigin(groups []string, origin string) {
	s := l.backlog.Load()
	var join []string
	s.groupsMu.Lock()
	for _, g := range groups {
		origins, ok := s.peerGroups[g]
		switch {
		case len(origin) > maxIdentity || s.origins >= maxPeerGroups:
			l.fault(faultLimit)
			continue
		case ok:
			if _, had := origins[origin]; !had {
				s.origins++
			}
			origins[origin] = struct{}{}
			continue
		case !relay.ValidGroup(g) || g == broadcastGroup || strings.HasPrefix(g, ownPrefix):
			l.fault(faultGroup)
			continue
		case len(s.peerGroups) >= maxPeerGroups:
			l.fault(faultLimit)
			continue
		}
		s.peerGroups[g] = map[string]struct{}{origin: {}}
		s.origins++
		join = append(join, g)
	}
	s.groupsMu.Unlock()
	l.b.tap.add(s, join)
}

// removeOrigin unsubscribes a channel of the web node from groups. The last channel of a group leaves it.
func (l *link) removeOrigin(groups []string, origin string) {
	s := l.backlog.Load()
	var leave []string
	s.groupsMu.Lock()
	for _, g := range groups {
		if origins, ok := s.peerGroups[g]; ok {
			if _, had := origins[origin]; had {
				s.origins--
			}
			if delete(origins, origin); len(origins) == 0 {
				delete(s.peerGroups, g)
				leave = append(leave, g)
			}
		}
	}
	s.groupsMu.Unlock()
	l.b.tap.remove(s, leave)
}
