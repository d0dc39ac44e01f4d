package backplane

import (
	"context"

	"github.com/coder/websocket"
)

// serveBroadcast serves a Python node of AWX 9 to 21 that dialed this node. The peer receives all events and sends
// none.
func (l *link) serveBroadcast() error {
	l.takeBacklog()
	l.startProbing()
	l.send = func(events []*event) error {
		return l.writeEvents(events, func(e *event) []byte { return e.text })
	}
	l.receive = func(websocket.MessageType, []byte) error { return nil }
	l.b.spawn(func() {
		defer l.listenProbe()()
		sent := false
		l.runProbe(func(context.Context) (bool, error) {
			if !sent { // the peer reads in order: sending the probe once is enough
				sent = true
				l.queue.pushControl(appendBroadcast(nil, l.verdict.probe, "", []byte("{}")))
			}
			return false, nil
		}, func() {})
	})
	l.b.tap.setBroadcast(l.backlog.Load(), true)
	defer l.move(signalEnded)
	return l.run()
}

// readBroadcast receives from a Python node of AWX 9 to 21 that this node dialed.
func (l *link) readBroadcast() error {
	l.startProbing()
	l.receive = func(_ websocket.MessageType, b []byte) error {
		ev, err := decodeBroadcast(b)
		if err != nil {
			l.fault(err.(fault))
			return nil
		}
		l.receiveEvent(ev)
		return nil
	}
	l.b.spawn(func() {
		l.runProbe(func(ctx context.Context) (bool, error) {
			_, err := l.b.publish(ctx, broadcastGroup, appendBroadcast(nil, l.verdict.probe, "", []byte("{}")))
			return false, err
		}, l.resumeSource)
	})
	defer l.endSource()
	return l.run()
}
