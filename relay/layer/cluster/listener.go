package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

const (
	// probeInterval is the time between questions to each master for the cluster's state.
	probeInterval = 500 * time.Millisecond
	// answerTimeout is how long a healthy master may take to answer.
	answerTimeout = time.Second
)

var (
	errNoMaster = errors.New("the node is no longer a master of the cluster")
	errTimedOut = fmt.Errorf("no answer for %v", replyTimeout)
)

// listener is a connection to a master, with the subscriptions to the master's groups. A listener ends when the
// connection breaks; then the groups go to the listeners of their masters.
// See docs/decisions/layers.md#why-do-cluster-subscriptions-have-connections-of-their-own
type listener struct {
	broker *Broker
	addr   string
	groups map[*group]bool // guarded by broker.mu

	mu     sync.Mutex
	conn   *resp.Conn
	queue  []command     // not sent yet
	sent   []command     // not answered yet
	signal chan struct{} // queue is not empty, or ended is set
	ended  error
	up     bool
	asked  time.Time // when the oldest unanswered command was sent
	state  string    // of the cluster, in the node's view
	busy   bool      // the sink takes events, and replies are not read meanwhile

	events []relay.Event // of the reading goroutine
}

type kind uint8

const (
	probe kind = iota
	subscribe
	unsubscribe
)

// command is sent to a node. A probe has no task.
type command struct {
	kind kind
	task reconcile.Task[assignment]
}

// group returns the name of the command's group.
func (c command) group() string { return c.task.Entry.Key }

// listen returns the listener of an address; a new listener connects. b.mu is held.
func (b *Broker) listen(addr string) *listener {
	if l := b.listeners[addr]; l != nil {
		return l
	}
	l := &listener{broker: b, addr: addr, groups: map[*group]bool{}, signal: make(chan struct{}, 1)}
	b.listeners[addr] = l
	b.life.Go(func() {
		err := l.run(b.ctx)
		b.lost(l, err)
	})
	return l
}

// lost removes a listener that has ended.
func (b *Broker) lost(l *listener, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, l.addr)
	if !errors.Is(err, errNoMaster) && !errors.Is(err, context.Canceled) {
		b.troubles[l.addr] = err
		b.lastLoss = fmt.Errorf("%s: %w", l.addr, err)
	}
	for g := range l.groups {
		b.interrupted(l, g)
	}
	b.client.ReloadState(b.ctx)
	b.failed.Store(true)
	b.wake()
}

// send queues a command until the listener is connected.
func (l *listener) send(c command) {
	l.mu.Lock()
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	l.poke()
}

// end ends the listener.
func (l *listener) end(why error) {
	l.mu.Lock()
	if l.ended == nil {
		l.ended = why
	}
	l.mu.Unlock()
	l.poke()
}

func (l *listener) poke() {
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// run connects, and works until the connection breaks.
func (l *listener) run(ctx context.Context) error {
	nc, err := l.broker.dial(ctx, "tcp", l.addr)
	if err != nil {
		return err
	}
	conn := resp.New(nc, l.pushed)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	defer func() { _ = nc.Close() }()
	if err := l.greet(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	l.mu.Lock()
	l.conn, l.up = conn, true
	l.mu.Unlock()
	l.broker.connected(l)

	read := make(chan error, 1)
	go func() { read <- l.read(conn) }()
	err = l.write(ctx, conn, read)
	_ = nc.Close()
	if reading, ok := <-read; ok && err == nil {
		err = reading
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// greet authenticates. Sharded pub/sub needs HELLO for replies between messages.
func (l *listener) greet(conn *resp.Conn) error {
	user, password := l.broker.credentials()
	known, refused, err := redisnet.Hello(conn, &goredis.Options{Username: user, Password: password})
	if err == nil && !known {
		err = refused
	}
	return err
}

// write sends queued commands and probes until reading ends.
func (l *listener) write(ctx context.Context, conn *resp.Conn, read chan error) error {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	l.send(command{kind: probe})
	for {
		var err error
		select {
		case err := <-read:
			close(read)
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			err = l.probeIfQuiet()
		case <-l.signal:
			err = l.sendQueue(conn)
		}
		if err != nil {
			return err
		}
	}
}

// probeIfQuiet queues a probe unless a reply is awaited. An overdue reply is an error.
func (l *listener) probeIfQuiet() error {
	l.mu.Lock()
	asked := l.asked
	if l.busy {
		asked = time.Now()
	}
	l.mu.Unlock()
	switch {
	case asked.IsZero():
		l.send(command{kind: probe})
	case time.Since(asked) > replyTimeout:
		return errTimedOut
	}
	return nil
}

// sendQueue sends the queued commands. The reason why the listener was ended is an error.
func (l *listener) sendQueue(conn *resp.Conn) error {
	l.mu.Lock()
	batch, ended := l.queue, l.ended
	l.queue = nil
	l.sent = append(l.sent, batch...)
	if l.asked.IsZero() && len(batch) > 0 {
		l.asked = time.Now()
	}
	l.mu.Unlock()
	if ended != nil || len(batch) == 0 {
		return ended
	}
	commands := make([][]string, len(batch))
	for i, c := range batch {
		switch c.kind {
		case subscribe:
			commands[i] = []string{"SSUBSCRIBE", l.broker.channel(c.group())}
		case unsubscribe:
			commands[i] = []string{"SUNSUBSCRIBE", l.broker.channel(c.group())}
		default:
			commands[i] = []string{"CLUSTER", "INFO"}
		}
	}
	return conn.Send(replyTimeout, commands...)
}

// read receives replies and pushed messages until the connection breaks.
func (l *listener) read(conn *resp.Conn) error {
	for {
		reply, err := conn.Reply()
		var refused resp.Error
		switch {
		case errors.As(err, &refused):
			if err := l.refused(refused); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			l.answered(probe, "")
			state := ""
			if len(reply) > 0 {
				_, state, _ = strings.Cut(string(reply[0]), "cluster_state:")
				state, _, _ = strings.Cut(state, "\r\n")
			}
			l.mu.Lock()
			l.state = state
			l.mu.Unlock()
		}
	}
}

// answered returns the oldest command that was sent, if kind and group match. A probe has no group.
func (l *listener) answered(k kind, name string) (command, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) == 0 || l.sent[0].kind != k || k != probe && l.sent[0].group() != name {
		return command{}, false
	}
	c := l.sent[0]
	l.sent = l.sent[1:]
	l.asked = time.Time{}
	if len(l.sent) > 0 {
		l.asked = time.Now()
	} else {
		l.sent = nil
	}
	return c, true
}

// refused takes the rejection of the oldest command. An error ends the connection.
func (l *listener) refused(why resp.Error) error {
	l.mu.Lock()
	if len(l.sent) == 0 {
		l.mu.Unlock()
		return why
	}
	c := l.sent[0]
	l.mu.Unlock()
	if c.kind == probe {
		return fmt.Errorf("CLUSTER INFO: %w (it must be a node of a cluster, and the user must be allowed to ask)", why)
	}
	l.answered(c.kind, c.group())
	b := l.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	outcome := reconcile.Done // The group is not subscribed there.
	if c.kind == subscribe {
		b.refusal = fmt.Errorf("%s: %w", l.addr, why)
		outcome = reconcile.Unsent
	}
	b.ended(l, c, outcome)
	b.client.ReloadState(b.ctx)
	b.failed.Store(true)
	return nil
}

// pushed receives messages and the answers to subscriptions.
func (l *listener) pushed(what string, args [][]byte) {
	b := l.broker
	switch {
	case what == "smessage" && len(args) == 2:
		l.message(args[0], args[1])
	case what == "ssubscribe" && len(args) > 0:
		if c, ok := l.answered(subscribe, b.name(args[0])); ok {
			b.confirmed(c)
		}
	case what == "sunsubscribe" && len(args) > 0:
		l.flush(false) // before the events that another listener receives
		l.unsubscribed(b.name(args[0]))
	}
	l.flush(false)
}

// unsubscribed takes the end of a subscription. Without a command in flight, the slot has moved to another node.
func (l *listener) unsubscribed(name string) {
	c, asked := l.answered(unsubscribe, name)
	b := l.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if asked {
		b.ended(l, c, reconcile.Done)
		return
	}
	b.client.ReloadState(b.ctx)
	b.failed.Store(true)
	if g := b.groups.Get(name); g != nil {
		b.interrupted(l, g)
	}
}

// name returns the group of a channel.
func (b *Broker) name(channel []byte) string {
	return string(bytes.TrimPrefix(channel, []byte(b.place.Prefix+":")))
}

// setBusy notes whether the sink is taking events.
func (l *listener) setBusy(busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy = busy; !busy && !l.asked.IsZero() {
		l.asked = time.Now()
	}
}

// deliverMax is the maximum number of events that are handed over at once.
const deliverMax = 512

// flush hands events to the sink. With more, it first collects messages that have arrived as well.
func (l *listener) flush(more bool) {
	if len(l.events) == 0 || more && len(l.events) < deliverMax && l.conn.Complete() {
		return
	}
	l.setBusy(true)
	l.broker.sink.Deliver(l.events)
	l.setBusy(false)
	clear(l.events)
	l.events = l.events[:0]
}
