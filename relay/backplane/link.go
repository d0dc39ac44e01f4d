package backplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// batchBytes bounds the events written between two looks at the control messages.
	batchBytes = 64 << 10
	// socketBuffer is the size of the kernel's send buffer. Bytes in it can no longer be dropped, and delay pings.
	socketBuffer = 512 << 10
	// flushWait bounds the wait for queued events to be written when this node leaves.
	flushWait = time.Second
	// closeTimeout is the time that a peer has to answer a close frame.
	closeTimeout = 500 * time.Millisecond
)

// link is one WebSocket connection with a peer, in any dialect.
// See docs/decisions/backplane.md#why-does-the-backplane-use-coderwebsocket
type link struct {
	b       *Backplane
	conn    *websocket.Conn
	out     *outbox
	dialect Dialect // Broadcast, Relay or EdgeRelay
	dialed  bool
	url     string // the URL that this node dialed
	address string // the remote address of a peer that dialed
	remote  string // the remote address of a peer that this node dialed
	began   time.Time
	served  chan struct{} // closed once a link that this node dialed has ended
	result  error         // the reason then
	skew    time.Duration // the lag of the dialing peer's clock
	segment int           // bound of the packets that this node set, 0: none
	socket  *net.TCPConn  // of a link that this node dialed, nil for others
	queue   *queue
	// unwritten holds the events of the write during which the link ended.
	unwritten []*event
	// send writes events; nil for peers that receive none.
	send func(events []*event) error
	// receive handles one message. An error ends the link.
	receive func(kind websocket.MessageType, b []byte) error

	ctx    context.Context
	cancel context.CancelCauseFunc

	// phaseNow holds a phase; only move changes it.
	phaseNow atomic.Int32
	vitals   vitals

	// These fields concern relays.
	node, name, version string
	peer                peerState
	answered            chan struct{} // closed once the last change of interest is confirmed; owned by the reading goroutine
	// resumes is set if both relays have the feature resume. The next fields concern such links.
	resumes    bool
	types      bool                   // the peer has the feature types
	timed      bool                   // both relays have the features resume and timed
	refetches  bool                   // both relays have the features resume and refetch
	in         *incoming              // this node's place in the peer's stream
	stream     atomic.Pointer[stream] // of events for the peer, once the peer has asked for it over this link
	resumed    atomic.Bool            // the peer knew the stream
	recent     atomic.Pointer[recent] // events of the peer's layer, once the peer is its source
	replaced   *stream                // dropped in favor of stream; owned by the reading goroutine
	keep       []string               // groups of an unfinished interest; owned by the reading goroutine
	refills    context.Context        // of the last refills; owned by the reading goroutine
	endRefills context.CancelFunc     // ends refills
	catchingUp atomic.Bool            // the peer's stream has not reached the end of the break before this link
	jumped     atomic.Bool            // numbers are missing, and the peer has not reported the loss yet
	tooLarge   atomic.Bool            // a message was skipped since the last batch

	slowness slowness // decides about compression

	// These fields concern Python nodes.
	verdict verdict
	secure  bool                    // the connection uses TLS
	backlog atomic.Pointer[backlog] // the queue for a node that gets events
	written []writtenEvent          // events that may not have arrived; owned by the writing goroutine
	counted int                     // leading events of written that EventsOut includes; as well

	rtt                 atomic.Int64 // nanoseconds
	eventsIn, eventsOut atomic.Uint64
	framesIn, framesOut atomic.Uint64
	dropped, faults     atomic.Uint64

	groupSet // of a peer without a stream
}

// newLink wraps a connection.
func (b *Backplane) newLink(conn *websocket.Conn, out *outbox, dialect Dialect) *link {
	s := b.settings.Load()
	l := &link{b: b, conn: conn, out: out, dialect: dialect, began: time.Now(), queue: newQueue(s.QueueBytes)}
	l.vitals.init(s)
	l.peerGroups = map[string]map[string]struct{}{}
	l.ctx, l.cancel = context.WithCancelCause(b.ctx)
	l.queue.overflow = func() { l.end(errStalled) }
	l.queue.age = b.ageLimit(func() (string, *link) { return l.String(), l })
	out.lastProgress.Store(relay.Ticks(l.began))
	out.lastReceived.Store(relay.Ticks(l.began))
	conn.SetReadLimit(-1) // readMessage has its own limit
	return l
}

// run serves the link until it ends, and returns the reason.
func (l *link) run() error {
	if !l.b.addLink(l) {
		_ = l.conn.CloseNow()
		l.b.tap.removeAll(l)
		l.leaveBacklog()
		return errors.New("the backplane is closing")
	}
	defer l.b.removeLink(l)
	var workers sync.WaitGroup
	workers.Go(l.writeLoop)
	workers.Go(l.pingLoop)
	for {
		kind, message, err := l.readMessage()
		if err == nil {
			l.framesIn.Add(1)
			l.b.stats.framesIn.Add(1)
			l.vitals.handling.Store(true)
			err = l.receive(kind, message)
			l.vitals.handling.Store(false)
		}
		if err != nil {
			l.end(err)
			break
		}
	}
	_ = l.conn.CloseNow()
	workers.Wait()
	l.b.tap.removeAll(l)
	l.leaveBacklog()
	l.abandon(l.unwritten)
	if l.replaced != nil {
		l.replaced.leaveGroups()
	}
	if s := l.stream.Load(); s != nil {
		s.detach(l, websocket.CloseStatus(context.Cause(l.ctx)) == websocket.StatusGoingAway)
	}
	return context.Cause(l.ctx)
}

// end ends the link.
func (l *link) end(why error) { l.cancel(why) }

// idle reports whether nothing is queued or being written.
func (l *link) idle() bool {
	s := l.stream.Load()
	return (s == nil || !s.has(l) || s.queue.unsent() == 0) && l.queue.idle() && l.backlog.Load().idle()
}

// closeWith closes the link with a close frame.
func (l *link) closeWith(code websocket.StatusCode, reason string) {
	l.out.delivery.orderly.Store(true)
	timer := time.AfterFunc(closeTimeout, l.out.abort) // CloseNow would wait for Close, which waits longer
	defer timer.Stop()
	_ = l.conn.Close(code, reason)
}

// readMessage returns the next message; longer ones than FrameSize are skipped.
func (l *link) readMessage() (websocket.MessageType, []byte, error) {
	for {
		kind, r, err := l.conn.Reader(l.ctx)
		if err != nil {
			return 0, nil, err
		}
		limit := l.b.settings.Load().FrameSize
		var buf bytes.Buffer
		_, err = buf.ReadFrom(io.LimitReader(r, int64(limit)+1))
		if err != nil {
			return 0, nil, err
		}
		if buf.Len() <= limit {
			return kind, buf.Bytes(), nil
		}
		l.fault(faultTooLarge)
		l.reportTooLarge()
		buf = bytes.Buffer{}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return 0, nil, err
		}
	}
}

// fault counts dropped input of the peer, and logs the first.
func (l *link) fault(f fault) {
	l.b.stats.drop(f, 1)
	if l.faults.Add(1) == 1 {
		l.b.log.Warn("invalid input from peer dropped", "peer", l.String(), "reason", f.Error())
	}
}

// push queues an event for the peer. It implements sink.
func (l *link) push(e *event) {
	if e.kind != "" { // A consumer of AWX would end with an error.
		return
	}
	if dropped, first := l.queue.push(e); dropped > 0 {
		l.dropped.Add(uint64(dropped))
		l.b.countOverflow(l.String(), l.queue.limit, dropped, first)
	}
}

// countOverflow counts events that were dropped from a peer's full queue, and logs the first of a series.
func (b *Backplane) countOverflow(peer string, limit, dropped int, first bool) {
	b.stats.lose(peer, faultQueue, dropped)
	b.hub.Lost(relay.Loss{Cause: relay.LossPeerQueue, Events: dropped})
	if first {
		b.log.Warn("slow peer, oldest events dropped", "peer", peer, "queue_bytes", limit)
	}
}

// writeLoop writes queued messages and events.
func (l *link) writeLoop() {
	var events []*event
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.queue.signal:
		}
		s, number, loss := l.stream.Load(), uint64(0), lossReport{}
		batch := events[:0]
		if s != nil { // the stream's queue keeps the events
			number, events, loss = s.queue.nextNumbered(l.queue, batch, batchBytes, time.Now())
			s.countLosses()
			batch = nil
		}
		// Messages leave before the events: those that precede an event of the stream were queued before it.
		control, batch, recovered, groups := l.queue.next(batch, batchBytes)
		l.unwritten = batch
		untold := recovered // of the recovered events: the stream's own reports tell of others
		if s != nil {
			recovered, untold = loss.recovered, 0
		} else {
			events = batch
		}
		if b := l.backlog.Load(); b != nil {
			events, recovered = b.next(l, batch)
			l.unwritten, untold = events, recovered
		}
		l.out.hold()
		for _, message := range control {
			if err := l.write(websocket.MessageText, message); err != nil {
				l.end(err)
				return
			}
		}
		if len(events) > 0 {
			send := l.send
			if s != nil {
				send = func(events []*event) error { return l.sendNumbered(number, events) }
			}
			if err := send(events); err != nil {
				l.end(err)
				return
			}
		}
		began := time.Now()
		if err := l.out.flush(); err != nil {
			l.end(err)
			return
		}
		l.slowness.flushTook = time.Since(began)
		l.countSent(s, number, events)
		clear(events)
		l.unwritten = nil
		l.forgetArrived()
		l.counted = len(l.written)
		if recovered > 0 {
			l.b.log.Info("slow peer recovered", "peer", l.String(), "count", recovered)
		}
		switch {
		case loss.number > 0:
			l.sendMessage(message{Type: "lost", Loss: loss.number, Count: loss.count, Groups: loss.groups})
		case untold > 0:
			l.sendLoss(untold, groups)
		}
		l.queue.markWritten()
	}
}

// write writes one message into the outbox.
func (l *link) write(kind websocket.MessageType, b []byte) error {
	if err := l.conn.Write(l.ctx, kind, b); err != nil {
		return err
	}
	l.framesOut.Add(1)
	l.b.stats.framesOut.Add(1)
	return nil
}

// errTimedOut ends a link whose peer neither answers pings nor reads.
var errTimedOut = errors.New("timed out: no answer to a ping")

// pingLoop measures the round-trip time and ends a link that has timed out. It pings at intervals, and
// on request.
func (l *link) pingLoop() {
	for {
		s := l.b.settings.Load()
		ctx, cancel := context.WithTimeout(l.ctx, s.Silence)
		began := time.Now()
		l.vitals.pinged.Store(relay.Ticks(began))
		err := l.conn.Ping(ctx)
		cancel()
		switch {
		case err == nil:
			took := int64(time.Since(began))
			l.rtt.Store(took)
			l.vitals.delay.Store(took)
			l.vitals.pinged.Store(0)
		case l.ctx.Err() != nil:
			return
		case time.Since(relay.At(l.out.lastProgress.Load())) >= s.Silence:
			l.end(errTimedOut)
			return
		}
		pause := time.NewTimer(s.Ping)
		select {
		case <-pause.C:
		case <-l.vitals.pingNow:
			pause.Stop()
		case <-l.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// String names the peer in logs.
func (l *link) String() string {
	switch {
	case l.name != "" && l.url != "":
		return l.name + " (" + l.url + ")"
	case l.url != "":
		return l.url
	case l.name != "":
		return l.name + " (" + l.address + ")"
	}
	return l.address
}
