package backplane

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coder/websocket"
)

// The dialect edgerelay.v1 is negotiated as a WebSocket subprotocol. Text frames hold one [message], binary frames
// a batch of events (frame.go). The handshake has three messages: the dialed node's hello with a nonce, the dialing
// node's hello with its own nonce and a proof, and the dialed node's welcome with its proof. Each proof covers both
// nonces and both names, so neither side accepts a recorded handshake. After the handshake, both sides may send at
// any time.

// subprotocol is the name of the dialect in the handshake.
const subprotocol = "edgerelay.v1"

// handshakeWait bounds the handshake.
const handshakeWait = 10 * time.Second

// message is any message between relays except events.
type message struct {
	// Type is hello, welcome, layer, interest, joined or lost; between relays with the feature resume also stream, ack
	// or refilled, and with the feature timed also clock.
	Type string `json:"type"`
	// Features are the abilities of the sender of a hello. Older relays send none.
	Features []string `json:"features,omitempty"`
	// Node, Name, Layer and Version introduce the sender; older relays send no version. Layer alone announces a new
	// identity of its channel layer.
	Node  string `json:"node,omitempty"`
	Name  string `json:"name,omitempty"`
	Layer string `json:"layer,omitempty"`
	// Version is for people: nothing depends on it.
	Version string `json:"version,omitempty"`
	// Instead is set in the first layer message if the dialing node has found all other links between the two nodes
	// silent.
	Instead bool   `json:"instead,omitempty"`
	Nonce   string `json:"nonce,omitempty"`
	Proof   string `json:"proof,omitempty"`
	// Join and Leave change the sender's interest; with Reset, Join replaces it. Seq numbers these changes. In
	// joined, Seq is the last change in effect.
	Seq   uint64   `json:"seq,omitempty"`
	Reset bool     `json:"reset,omitempty"`
	Join  []string `json:"join,omitempty"`
	Leave []string `json:"leave,omitempty"`
	// Source asks for the sender's stream over this link, with Reset. Stream is the stream's id, and Last the number of
	// the last event that the sender has, if it knows the stream. More is set if further groups of the same interest
	// follow. Turn counts the sender's requests for streams: a request that a stalled link delivers late is no longer
	// valid. After has the sender's last positions of groups in Join, for a stream that does not continue.
	Source bool              `json:"source,omitempty"`
	Stream string            `json:"stream,omitempty"`
	Last   uint64            `json:"last,omitempty"`
	Turn   uint64            `json:"turn,omitempty"`
	More   bool              `json:"more,omitempty"`
	After  map[string]string `json:"after,omitempty"`
	// First is the number of the first event that follows in a stream, and Until the number of the last event that was
	// queued at that time. In refilled, Until is the number of the last event read from the history for Groups, and
	// Missing lists the groups whose events could not be read.
	First   uint64   `json:"first,omitempty"`
	Until   uint64   `json:"until,omitempty"`
	Missing []string `json:"missing,omitempty"`
	// Count is the number of lost events for the receiver, 0 if unknown. Groups lists their groups; none means any
	// group.
	// Loss numbers the reports of a stream; in ack, and with Source, it is the last one that the sender has.
	Loss   uint64   `json:"loss,omitempty"`
	Count  uint64   `json:"count,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Asked is when a question about the clock was sent, by the asking node's steady clock. Arrived and Answered are when
	// the question arrived and the answer left, by the other node's. WallBase is the answering node's wall clock minus its
	// steady clock; a question has none. All are microseconds.
	Asked    int64 `json:"asked,omitempty"`
	Arrived  int64 `json:"arrived,omitempty"`
	Answered int64 `json:"answered,omitempty"`
	WallBase int64 `json:"wall_base,omitempty"`
}

const (
	// groupsPerMessage bounds the groups listed in one message.
	groupsPerMessage = 1000
	// maxPeerGroups bounds the groups that one peer may subscribe.
	maxPeerGroups = 200_000
	// maxIdentity bounds the length of a node's id, name and layer.
	maxIdentity = 256
)

var (
	errMoved     = errors.New("this node has moved to another channel layer")
	errRedundant = errors.New("another link to this node exists")
)

// proof proves knowledge of the secret and participation in this handshake.
// See docs/decisions/backplane.md#why-is-the-nonce-in-the-messages
func proof(secret, side string, server, client message) string {
	return sign(secret, fmt.Appendf(nil, "edgerelay.v1 %s %q %q %q %q %q %q", side,
		server.Nonce, server.Node, server.Layer, client.Nonce, client.Node, client.Layer))
}

func (b *Backplane) hello() message {
	s := b.settings.Load()
	return message{
		Type: "hello", Node: b.id, Name: s.Name, Layer: b.ownLayer(), Nonce: rand.Text(), Version: s.Version,
		Features: b.features,
	}
}

// features are the abilities of this version.
func features() []string { return []string{featureResume, featureTypes, featureTimed, featureRefetch} }

// acceptHandshake is the dialed node's part of the handshake.
func (l *link) acceptHandshake() error {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeWait)
	defer cancel()
	own := l.b.hello()
	if err := l.writeMessage(ctx, own); err != nil {
		return err
	}
	theirs, err := l.readHandshake(ctx, "hello")
	if err != nil {
		return err
	}
	for _, secret := range l.b.settings.Load().Secrets {
		if hmac.Equal([]byte(proof(secret, "client", own, theirs)), []byte(theirs.Proof)) {
			l.setPeer(theirs)
			return l.writeMessage(ctx, message{Type: "welcome", Proof: proof(secret, "server", own, theirs)})
		}
	}
	return RejectedProof
}

// startHandshake is the dialing node's part. secret is the secret of the request's header.
func (l *link) startHandshake(secret string) error {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeWait)
	defer cancel()
	theirs, err := l.readHandshake(ctx, "hello")
	if err != nil {
		return err
	}
	if theirs.Node == l.b.id {
		return RejectedSelf
	}
	own := l.b.hello()
	own.Proof = proof(secret, "client", theirs, own)
	if err := l.writeMessage(ctx, own); err != nil {
		return err
	}
	welcome, err := l.readHandshake(ctx, "welcome")
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(proof(secret, "server", theirs, own)), []byte(welcome.Proof)) {
		return RejectedProof
	}
	l.setPeer(theirs)
	return nil
}

func (l *link) setPeer(hello message) {
	l.vitals.delay.Store(int64(time.Since(l.began))) // of the handshake
	l.node, l.name, l.version = hello.Node, hello.Name, hello.Version
	l.peer.layer = hello.Layer
	l.peer.confirmed, l.peer.replaced = make(chan struct{}), make(chan struct{})
	both := func(feature string) bool {
		return slices.Contains(l.b.features, feature) && slices.Contains(hello.Features, feature)
	}
	l.resumes, l.types = both(featureResume), both(featureTypes)
	l.timed, l.refetches = l.resumes && both(featureTimed), l.resumes && both(featureRefetch)
	if l.resumes {
		l.in = l.b.incomingOf(l.node)
	}
	if l.dialed {
		l.move(signalDialed)
	} else {
		l.move(signalAccepted)
	}
}

func (l *link) writeMessage(ctx context.Context, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.conn.Write(ctx, websocket.MessageText, b)
}

// readHandshake reads a message of the handshake.
func (l *link) readHandshake(ctx context.Context, kind string) (m message, err error) {
	l.conn.SetReadLimit(8 << 10)
	defer l.conn.SetReadLimit(-1)
	_, b, err := l.conn.Read(ctx)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Type != kind {
		return m, fmt.Errorf("handshake: the peer sent no %s", kind)
	}
	longest := max(len(m.Node), len(m.Name), len(m.Layer), len(m.Version))
	if longest > maxIdentity || kind == "hello" && m.Node == "" {
		return m, errors.New("handshake: the peer's hello is invalid")
	}
	return m, nil
}

// serveV1 serves an established link to a relay until it ends.
// See docs/decisions/backplane.md#why-does-a-dialed-node-wait-before-it-asks-for-events
func (l *link) serveV1() error {
	l.send = l.sendBatch
	l.receive = l.receiveV1
	i := &l.b.interest
	i.mu.Lock()
	if !l.dialed {
		l.enlist(false)
	}
	layer := l.peer.layer
	i.mu.Unlock()
	l.sendPendingLoss()
	defer l.replace()
	defer l.startClock()() // before the peer is asked for events, so that the clock is known when they arrive
	l.setPeerLayer(layer)
	if l.dialed {
		l.compete(false)
	}
	return l.run()
}

// replace chooses another source in place of this link, which has ended.
func (l *link) replace() {
	i := &l.b.interest
	i.mu.Lock()
	delete(i.relays, l)
	if l.move(signalEnded).isSource() {
		l.b.openGap(l.peer.layer, l.node, l.peer.takeUnconfirmed(l.peer.askedSeq, true))
	}
	i.mu.Unlock()
	l.b.chooseSources()
	close(l.peer.replaced)
	if l.in != nil {
		l.in.release()
	}
}

// sendMessage queues a message.
func (l *link) sendMessage(m message) {
	b, err := json.Marshal(m)
	if err != nil { // strings and numbers never fail
		panic(err)
	}
	l.queue.pushControl(b)
}

// sendInterest sends a change of interest to the peer. interest.mu is held. It returns the sequence number of the
// last message.
func (l *link) sendInterest(reset bool, join, leave []string) uint64 {
	return l.sendChange(message{Reset: reset}, join, leave)
}

// sendChange sends a change of interest in as many messages as it takes, of which first is the first. interest.mu is
// held. It returns the sequence number of the last message.
func (l *link) sendChange(first message, join, leave []string) uint64 {
	source, after := first.Source, first.After
	for m := first; m.Reset || len(join) > 0 || len(leave) > 0; m = (message{}) {
		l.peer.askedSeq++
		m.Type, m.Seq = "interest", l.peer.askedSeq
		m.Join, join = splitGroups(join)
		m.Leave, leave = splitGroups(leave)
		m.More, m.After = source && len(join) > 0, nil
		for _, group := range m.Join {
			if at, ok := after[group]; ok {
				if m.After == nil {
					m.After = map[string]string{}
				}
				m.After[group] = at
			}
		}
		l.sendMessage(m)
	}
	return l.peer.askedSeq
}

func splitGroups(groups []string) (some, rest []string) {
	n := min(len(groups), groupsPerMessage)
	return groups[:n], groups[n:]
}

// sendLoss reports to a relay how many events it missed, and in which groups.
func (l *link) sendLoss(n uint64, groups []string) {
	if l.dialect == EdgeRelay {
		l.sendMessage(message{Type: "lost", Count: n, Groups: groups})
	}
}

func (l *link) sendBatch(events []*event) error {
	size := 0
	for _, e := range events {
		size += e.cost()
	}
	batch := make([]byte, 0, size)
	for _, e := range events {
		batch = appendBatched(batch, e.group, e.text)
	}
	return l.write(websocket.MessageBinary, batch)
}

func (l *link) receiveV1(kind websocket.MessageType, b []byte) error {
	if kind == websocket.MessageBinary && l.resumes {
		l.receiveNumbered(b)
		return nil
	}
	if kind == websocket.MessageBinary {
		events := decodeBatch(b, nil, l.fault)
		if !l.phase().isSource() { // another node is the source of this layer, or the layer is our own
			l.b.stats.drop(faultSource, len(events))
			return nil
		}
		l.b.deliver(l, events)
		return nil
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		l.fault(faultBroken)
		return nil
	}
	switch m.Type {
	case "interest":
		l.applyInterest(m)
	case "joined":
		l.confirmInterest(m.Seq)
	case "layer":
		if len(m.Layer) > maxIdentity {
			l.fault(faultBroken)
			return nil
		}
		kept := l.move(signalKept) == phaseTentative
		l.setPeerLayer(m.Layer)
		if kept {
			l.compete(m.Instead)
		}
	case "lost":
		l.handleLoss(m)
	default:
		if !l.resumes || !l.receiveResume(m) {
			l.fault(faultType)
		}
	}
	return nil
}

// applyInterest applies a change of the peer's interest, and confirms it once the memberships are established.
func (l *link) applyInterest(m message) {
	i := &l.b.interest
	i.mu.Lock()
	same := l.peer.layer == l.b.ownLayer()
	i.mu.Unlock()
	if same {
		m.Reset, m.Join, m.Leave, m.More = true, nil, nil, false
	}
	wait := l.changeGroups(m)
	before, answered := l.answered, make(chan struct{})
	l.answered = answered
	go func() {
		defer close(answered)
		ctx, cancel := context.WithTimeout(l.ctx, listenWait)
		defer cancel()
		wait(ctx)
		if before != nil { // in order: a confirmation covers all earlier changes
			<-before
		}
		l.sendMessage(message{Type: "joined", Seq: m.Seq})
	}()
}
