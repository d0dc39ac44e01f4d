package backplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// batchBytes is how much is written to a peer before it is looked whether anything else is to be said.
	batchBytes = 64 << 10
	// socketBuffer is the kernel's buffer for a peer: what is in it can no longer be dropped, and delays pings.
	socketBuffer = 512 << 10
	// flushWait is how long a node that leaves waits for its peers to take what is queued for them.
	flushWait = time.Second
	// goodbyeWait is how long a peer has to answer a close frame.
	closeTimeout = 500 * time.Millisecond
)

// link is one websocket connection with a peer, in any dialect.
type link struct {
	b       *Backplane
	conn    *websocket.Conn
	out     *outbox // of conn
	dialect Dialect // Broadcast, Relay or EdgeRelay
	dialed  bool
	url     string // that this node dialled
	address string // of who dialled this node
	began   time.Time
	skew    time.Duration // of the dialling node's clock
	queue   *queue
	// unwritten holds the frames that were being written when the link ended.
	unwritten []*event
	// send writes events; nil where none are ever sent.
	send func(events []*event) error
	// receive takes one message. An error ends the link.
	receive func(kind websocket.MessageType, b []byte) error

	ctx    context.Context
	cancel context.CancelCauseFunc

	phaseNow atomic.Int32 // a phase; changed by move alone

	// Of relays.
	node, name string
	peer       peerState
	answered   chan struct{} // closed once the last change of interest was answered; of the reading goroutine

	// Of Python nodes.
	verdict verdict

	rtt                 atomic.Int64 // nanoseconds
	eventsIn, eventsOut atomic.Uint64
	framesIn, framesOut atomic.Uint64
	dropped, faults     atomic.Uint64

	groupsMu   sync.Mutex
	peerGroups map[string]map[string]struct{} // groups that the peer asked for, and which channels of it
	origins    int                            // of a Python web node: how many these are in all
}

// newLink wraps a connection.
func (b *Backplane) newLink(conn *websocket.Conn, out *outbox, dialect Dialect) *link {
	l := &link{
		b: b, conn: conn, out: out, dialect: dialect, began: time.Now(),
		queue:      newQueue(b.settings.Load().QueueBytes),
		peerGroups: map[string]map[string]struct{}{},
	}
	l.ctx, l.cancel = context.WithCancelCause(b.ctx)
	l.queue.overflow = func() { l.end(errStalled) }
	out.lastProgress.Store(relay.Ticks(time.Now()))
	conn.SetReadLimit(-1) // readMessage bounds what is kept
	return l
}

// run serves the link until it ends, and returns why.
func (l *link) run() error {
	if !l.b.addLink(l) {
		_ = l.conn.CloseNow()
		l.b.tap.removeAll(l)
		return errors.New("closing")
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
			err = l.receive(kind, message)
		}
		if err != nil {
			l.end(err)
			break
		}
	}
	_ = l.conn.CloseNow()
	workers.Wait()
	l.b.tap.removeAll(l)
	l.abandon(l.unwritten)
	return context.Cause(l.ctx)
}

// end gives the link up.
func (l *link) end(why error) { l.cancel(why) }

// flush waits until everything that is queued for the peer has been written, but not for long.
func (l *link) flush() {
	deadline := time.Now().Add(flushWait)
	for !l.queue.idle() && time.Now().Before(deadline) {
		if !sleep(l.ctx, 2*time.Millisecond) {
			return
		}
	}
}

// goodbye closes the link with a close frame.
func (l *link) closeWith(code websocket.StatusCode, reason string) {
	timer := time.AfterFunc(closeTimeout, l.out.abort) // CloseNow would only wait for Close, which has more patience
	defer timer.Stop()
	_ = l.conn.Close(code, reason)
}

// readMessage reads the next message that is not too large.
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
		buf = bytes.Buffer{}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return 0, nil, err
		}
	}
}

// fault counts something of the peer's that was not taken, and logs the first.
func (l *link) fault(f fault) {
	l.b.stats.drop(f, 1)
	if l.faults.Add(1) == 1 {
		l.b.log.Warn("a peer sent something that is not taken; further ones are only counted", "peer", l.String(), "reason", f.Error())
	}
}

// push queues an event for the peer.
func (l *link) push(e *event) {
	dropped, first := l.queue.push(e)
	if dropped == 0 {
		return
	}
	l.dropped.Add(uint64(dropped))
	l.b.stats.drop(faultQueue, dropped)
	l.b.hub.Lost(relay.Loss{Cause: relay.LossPeerQueue, Events: dropped})
	if first {
		l.b.log.Warn("a peer does not keep up: its oldest events are dropped from now on", "peer", l.String(), "queue_bytes", l.queue.limit)
	}
}

// writeLoop writes what is queued.
func (l *link) writeLoop() {
	var events []*event
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.queue.signal:
		}
		control, batch, recovered, groups := l.queue.next(events[:0], batchBytes)
		events, l.unwritten = batch, batch
		l.out.hold()
		for _, message := range control {
			if err := l.write(websocket.MessageText, message); err != nil {
				l.end(err)
				return
			}
		}
		if len(events) > 0 {
			if err := l.send(events); err != nil {
				l.end(err)
				return
			}
		}
		if err := l.out.flush(); err != nil {
			l.end(err)
			return
		}
		l.eventsOut.Add(uint64(len(events)))
		l.b.stats.eventsOut.Add(uint64(len(events)))
		clear(events)
		l.unwritten = nil
		if recovered > 0 {
			l.b.log.Info("a peer keeps up again", "peer", l.String(), "events_dropped_meanwhile", recovered)
			l.sendLoss(recovered, groups)
		}
		l.queue.markWritten()
	}
}

// write writes one message, into the outbox.
func (l *link) write(kind websocket.MessageType, b []byte) error {
	if err := l.conn.Write(l.ctx, kind, b); err != nil {
		return err
	}
	l.framesOut.Add(1)
	l.b.stats.framesOut.Add(1)
	return nil
}

// errSilent ends a link whose peer neither answers nor takes anything.
var errTimedOut = errors.New("no answer to a ping")

// pingLoop measures the round-trip time and finds out when the peer is gone.
func (l *link) pingLoop() {
	for {
		s := l.b.settings.Load()
		ctx, cancel := context.WithTimeout(l.ctx, s.Silence)
		began := time.Now()
		err := l.conn.Ping(ctx)
		cancel()
		switch {
		case err == nil:
			l.rtt.Store(int64(time.Since(began)))
		case l.ctx.Err() != nil:
			return
		case time.Since(relay.At(l.out.lastProgress.Load())) >= s.Silence:
			l.end(errTimedOut)
			return
		}
		if !sleep(l.ctx, s.Ping) {
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
