package plugins

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/edgerelay/edgerelay/plugins/internal/jsonpath"
)

// Client carries out what a function asks for its client. Calls for one client do not overlap.
type Client interface {
	// Perform carries out actions in order. It may block for as long as the channel layer takes.
	Perform(actions []Action)
}

// MaxAttachment is the greatest length in bytes of a connection's attachment.
const MaxAttachment = 16 << 10

// connectionPhase is the phase of a connection.
type connectionPhase uint8

const (
	connectionNew   connectionPhase = iota // on_connect has not accepted, or the handshake is not over
	connectionOpen                         // messages reach the function
	connectionEnded                        // the client is gone; only answers to requests follow
)

// Connection is the state that the host keeps of a function's client: the attachment, and the answers that have come
// for it. It survives other modules and configurations. Hooks of a connection run one at a time; those of different
// connections run in parallel.
type Connection struct {
	pipeline *Pipeline
	function string // the plugin's name
	id       uint64
	user     uint64 // a hash of the client's user, or address
	place    string // the path: a canary divides clients by it, so that the clients of a room have the same module

	mu         sync.Mutex // held during a hook and its effects; guards the fields below
	phase      connectionPhase
	client     Client // nil before Open
	attachment []byte
	begun      *effects // of on_connect, before Open: requests that are not started yet
	afterwards int      // answers that the function has got since the client has gone

	answers answers
}

// ErrRefused is wrapped by the error of [Pipeline.Connect] if the function refuses the client.
var ErrRefused = errors.New("refused by the function")

// RefusedError is the answer of a function that refuses a client.
type RefusedError struct {
	Status int // of HTTP, 400 to 599
	Reason string
}

// Error has the reason.
func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%v with %d", ErrRefused, e.Status)
	}
	return fmt.Sprintf("%v: %s", ErrRefused, e.Reason)
}

// Is tells that the error is [ErrRefused].
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// NewConnectionID returns the id of a new connection.
func NewConnectionID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// ConnectionIDText returns the id as the function sees it.
func ConnectionIDText(id uint64) string { return fmt.Sprintf("%016x", id) }

// Connect asks a function whether it accepts a client, whose request is a JSON object, see on_connect in ABI.md. The
// actions are for the caller: those of the kinds ActionSend and ActionJoin come before everything that the client gets
// later. The caller then calls [Connection.Open], or [Connection.Ended] if the handshake fails. A *RefusedError is the
// function's own answer; any other error is a failure, which refuses the client, too.
func (p *Pipeline) Connect(
	ctx context.Context, function string, id uint64, request []byte,
) (c *Connection, actions []Action, err error) {
	c = &Connection{
		pipeline: p, function: function, id: id, place: placeOf(request), user: maphash.Bytes(p.seed, clientOf(request)),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pl := c.plugin()
	record := pl.record(OnConnect, c)
	if record != nil {
		record.function.Request = request
	}
	made, err := c.call(pl, OnConnect, record, func(in *instance) *Failure { return in.connect(ctx, request) })
	if err != nil {
		return nil, nil, err
	}
	if made != nil {
		actions, made.actions = made.actions, nil
		c.begun = made
	}
	return c, actions, nil
}

// placeOf returns the path in a client's request.
func placeOf(request []byte) string {
	from, to, ok := jsonpath.Find(request, []byte("path"))
	if !ok {
		return ""
	}
	return string(jsonpath.Text(request[from:to]))
}

// Open begins the connection after the handshake.
func (c *Connection) Open(client Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client, c.phase = client, connectionOpen
	made := c.begun
	c.begun = nil
	c.commit(made)
}

// Message hands a client's message to the function, and returns when the function has handled it. The function may keep
// nothing of message. An error means that the message was not handled, and that on_error does not let it pass; it wraps
// [ErrBusy] if too many messages of other clients wait.
func (c *Connection) Message(text bool, message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != connectionOpen {
		return nil
	}
	pl := c.plugin()
	if text && pl != nil {
		if response, ok := pl.autoResponse(c.place, message); ok {
			pl.record(OnMessage, c).autoResponse(c, message, response)
			c.client.Perform([]Action{{Kind: ActionSend, Payload: response}})
			return nil
		}
	}
	record := pl.record(OnMessage, c)
	if record != nil {
		record.setMessage(text, message)
	}
	made, err := c.call(pl, OnMessage, record, func(in *instance) *Failure { return in.message(text, message) })
	if err != nil {
		if pl != nil && pl.forgives() && !errors.Is(err, ErrBusy) {
			return nil
		}
		return err
	}
	c.commit(made)
	return nil
}

// Ended tells the function that the client is gone. code is that of the client's close frame, 1006 without one. What
// on_close publishes goes through the Client for the last time.
func (c *Connection) Ended(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == connectionEnded {
		return
	}
	if c.begun != nil { // the handshake failed after on_connect
		begun := c.begun
		c.begun = nil
		c.commit(begun)
	}
	c.phase = connectionEnded // the hook cannot act on the client any more
	pl := c.plugin()
	record := pl.record(OnClose, c)
	if record != nil {
		record.function.Code = &code
		record.setText([]byte(reason))
	}
	made, err := c.call(pl, OnClose, record, func(in *instance) *Failure { return in.closed(code, reason) })
	if err == nil {
		c.commit(made)
	}
	c.client = nil
}

// Attachment returns a copy of the attachment.
func (c *Connection) Attachment() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.attachment...)
}

// errNoFunction is the error of a connection whose plugin is not configured any more.
var errNoFunction = errors.New("the function is not configured any more; add its plugin again, or remove it from the route")

// call calls a hook of the plugin's current module, and ends the record of the call, nil without one. It returns nil
// effects if the module does not export the hook. c.mu is held.
func (c *Connection) call(pl *plugin, hook Hook, record *callRecord, f func(in *instance) *Failure) (*effects, error) {
	if pl == nil {
		return nil, fmt.Errorf("plugin %s: %w", c.function, errNoFunction)
	}
	made, err := pl.callFunction(functionInput{
		hook: hook, hash: c.id, user: c.user, place: c.place, connection: c, record: record, call: f,
	})
	record.end(c.attachment, made, err)
	return made, err
}

// record begins the record of a call for a client. It returns nil unless the client is recorded, or without a plugin.
func (p *plugin) record(hook Hook, c *Connection) *callRecord {
	if p == nil {
		return nil
	}
	r := p.recording.Load()
	if r == nil {
		return nil
	}
	return r.begin(hook, c)
}

// plugin returns the plugin of the connection's function, nil if it is not configured.
func (c *Connection) plugin() *plugin { return c.pipeline.find(c.function) }

// commit makes the effects of a hook take effect. c.mu is held.
func (c *Connection) commit(made *effects) {
	if made == nil {
		return
	}
	pl := c.plugin()
	if pl == nil {
		return
	}
	if made.attached {
		c.attachment = made.attachment
	}
	if len(made.actions) > 0 {
		if c.client != nil {
			c.client.Perform(made.actions)
		} else {
			pl.env.publish(made.actions)
		}
	}
	pl.start(made.requests, origin{plugin: pl, connection: c})
}
