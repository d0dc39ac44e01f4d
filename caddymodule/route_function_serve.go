package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// functionTimeout bounds the time that a function's change of groups, or its message, waits for the channel layer.
const functionTimeout = 5 * time.Second

// maxConnectRequest bounds the input of on_connect about a client, in bytes: a client must not make its function fail,
// or need memory, by long headers.
const maxConnectRequest = 64 << 10

// errFunction is wrapped by the error for a client about whom the function could not decide.
var errFunction = errors.New("the function of the route failed")

// functionClient is a client of a route's function. It implements the handler of the client's messages, and
// [plugins.Client].
type functionClient struct {
	connection *plugins.Connection
	session    relay.Session
	hub        *hub.Hub
	host       *pluginhost.Host // that counts the messages
	plugin     string
	code       uint16 // of the client's close frame
	reason     string
	begin      []plugins.Action // of on_connect, before open
}

// connectRequest is the input of on_connect.
type connectRequest struct {
	ID           string            `json:"id"`
	Path         string            `json:"path"`
	Query        string            `json:"query"`
	Params       map[string]string `json:"params"`
	User         json.RawMessage   `json:"user"`
	UserKey      string            `json:"user_key"`
	UserName     string            `json:"user_name"`
	Address      string            `json:"address"`
	Headers      map[string]string `json:"headers"`
	Subprotocols []string          `json:"subprotocols"`
}

// connectFunction asks the function of a route about a client. Its groups and its first frames become those of e.
func (h *Handler) connectFunction(r *http.Request, e *entry) error {
	f := e.route.Function
	if f == nil {
		return nil
	}
	host := h.app.node.Plugins.Load()
	if host == nil {
		return errFunction
	}
	id := plugins.NewConnectionID()
	request, err := json.Marshal(functionRequest(r, e, id))
	if err != nil {
		return fmt.Errorf("%w: %w", errFunction, err)
	}
	if len(request) > maxConnectRequest {
		e.route.live.Route.Stats.Rejected.Add(1)
		return &plugins.RefusedError{
			Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "the URL and the headers are too long for a function",
		}
	}
	connection, actions, err := host.Pipeline.Connect(r.Context(), f.Plugin, id, request)
	if err != nil {
		e.route.live.Route.Stats.Rejected.Add(1)
		if errors.Is(err, plugins.ErrRefused) || r.Context().Err() != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errFunction, err)
	}
	for i := range actions {
		switch a := &actions[i]; a.Kind {
		case plugins.ActionSend:
			e.greeting = appendFrame(e.greeting, a)
		case plugins.ActionJoin:
			sub, err := h.app.node.Hub.Grant(r.Context(), e.reservation.Identity(), a.Group)
			if err != nil {
				connection.Ended(relay.ClosePolicy, "")
				return &groupError{group: a.Group, err: err}
			}
			sub.Granted = true
			e.subs = slices.DeleteFunc(e.subs, func(s relay.Subscription) bool { return s.Group == sub.Group })
			e.subs = append(e.subs, sub)
		}
	}
	e.function = &functionClient{
		connection: connection, hub: h.app.node.Hub, host: host, plugin: f.Plugin, code: closeAbnormal,
	}
	e.function.begin = actions
	return nil
}

// functionRequest returns the request for on_connect.
func functionRequest(r *http.Request, e *entry, id uint64) *connectRequest {
	user := e.reservation.Identity()
	q := &connectRequest{
		ID: plugins.ConnectionIDText(id), Path: r.URL.Path, Query: r.URL.RawQuery, Params: map[string]string{},
		User: json.RawMessage(user.Profile), UserKey: user.Key, UserName: user.Name,
		Address: relay.AddressText(e.reservation.Address), Headers: map[string]string{}, Subprotocols: []string{},
	}
	if !json.Valid(q.User) {
		q.User = json.RawMessage("null")
	}
	for i, name := range e.route.pattern.Params() {
		q.Params[name] = e.params[i]
	}
	for _, name := range e.route.Function.Headers {
		if values := r.Header.Values(name); len(values) > 0 {
			q.Headers[name] = strings.Join(values, ", ")
		}
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for name := range splitList(line) {
			q.Subprotocols = append(q.Subprotocols, name)
		}
	}
	return q
}

// open begins the connection after the handshake.
func (c *functionClient) open() {
	begin := c.begin
	c.begin = nil
	c.Perform(slices.DeleteFunc(begin, func(a plugins.Action) bool {
		return a.Kind == plugins.ActionSend || a.Kind == plugins.ActionJoin // the handshake did
	}))
	c.connection.Open(c) // from here on, answers to requests may act
}

// Message implements the handler of a client's messages.
func (c *functionClient) Message(text bool, message []byte) {
	switch err := c.connection.Message(text, message); {
	case err == nil:
	case errors.Is(err, plugins.ErrBusy):
		c.session.Socket().Close(relay.CloseTryLater, "function is busy")
	default:
		c.session.Socket().Close(plugins.CloseFunctionFailed, plugins.FunctionFailed)
	}
}

// Closed implements the handler of a client's messages.
func (c *functionClient) Closed(code int, reason string) { c.code, c.reason = uint16(code), reason }

// Ended implements the handler of a client's messages. The function is told before the session ends, for which a stop
// of the node waits.
func (c *functionClient) Ended() {
	c.connection.Ended(int(c.code), c.reason)
	c.session.Close()
}

// Perform implements [plugins.Client]. All actions together wait for the channel layer for functionTimeout.
func (c *functionClient) Perform(actions []plugins.Action) {
	if !slices.ContainsFunc(actions, usesLayer) {
		c.perform(context.Background(), actions)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), functionTimeout)
	defer cancel()
	c.perform(ctx, actions)
}

// usesLayer reports whether an action may wait for the channel layer.
func usesLayer(a plugins.Action) bool {
	return a.Kind != plugins.ActionSend && a.Kind != plugins.ActionClose
}

func (c *functionClient) perform(ctx context.Context, actions []plugins.Action) {
	var frames []byte
	flush := func() {
		if len(frames) > 0 {
			relay.SendAnswer(c.session.Socket(), frames, c.session.Limits().QueuePerConnection)
			frames = nil
		}
	}
	for i := 0; i < len(actions); i++ {
		a := &actions[i]
		if a.Kind == plugins.ActionSend {
			frames = appendFrame(frames, a)
			continue
		}
		flush()
		var err error
		switch a.Kind {
		case plugins.ActionJoin, plugins.ActionLeave:
			more := groupChanges(actions[i:])
			err = c.amend(ctx, actions[i:i+more])
			i += more - 1
		case plugins.ActionPublish:
			err = c.publish(ctx, a)
		case plugins.ActionClose:
			c.session.Socket().Close(int(a.Code), string(a.Payload))
		}
		if err != nil {
			c.close(err)
			return
		}
	}
	flush()
}

// close ends the connection of a client whose function's action has failed.
func (c *functionClient) close(err error) {
	code, reason := plugins.CloseFunctionFailed, "channel layer failed"
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)):
		code, reason = relay.ClosePolicy, "too many groups"
	case errors.Is(err, relay.ErrDenied):
		code, reason = relay.ClosePolicy, "access denied"
	}
	c.session.Socket().Close(code, reason)
}

// groupChanges returns the number of changes of groups at the beginning of actions.
func groupChanges(actions []plugins.Action) int {
	n := slices.IndexFunc(actions, func(a plugins.Action) bool {
		return a.Kind != plugins.ActionJoin && a.Kind != plugins.ActionLeave
	})
	if n < 0 {
		return len(actions)
	}
	return n
}

// amend changes the client's groups: the last change of a group counts.
func (c *functionClient) amend(ctx context.Context, changes []plugins.Action) error {
	joins := map[string]bool{}
	var order []string
	for i := range changes {
		if _, known := joins[changes[i].Group]; !known {
			order = append(order, changes[i].Group)
		}
		joins[changes[i].Group] = changes[i].Kind == plugins.ActionJoin
	}
	var subs []relay.Subscription
	var leave []string
	for _, group := range order {
		if !joins[group] {
			leave = append(leave, group)
			continue
		}
		sub, err := c.hub.Grant(ctx, c.session.Identity(), group)
		if err != nil {
			return err
		}
		sub.Granted = true
		subs = append(subs, sub)
	}
	_, err := c.session.Amend(ctx, subs, leave)
	if errors.Is(err, context.DeadlineExceeded) { // the change takes effect once the layer is reachable
		return nil
	}
	return err
}

// publish publishes a message of the function.
func (c *functionClient) publish(ctx context.Context, a *plugins.Action) error {
	m := relay.Message{Group: a.Group, Type: a.Type, Text: a.Payload}
	if a.Others {
		m.Sender = c.session.Sender()
	}
	return c.host.Publish(ctx, c.plugin, m)
}

// appendFrame appends the frame of an action to send.
func appendFrame(dst []byte, a *plugins.Action) []byte {
	const finBinary = 0x82
	at := len(dst)
	dst = relay.AppendFrame(dst, a.Payload)
	if a.Binary {
		dst[at] = finBinary
	}
	return dst
}

// closeAbnormal is the code of a connection that ends without a close frame (RFC 6455 section 7.4.1).
const closeAbnormal = 1006
