package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

const (
	// tokenTimeout bounds the check of a token that came in a message.
	tokenTimeout = 15 * time.Second
	// maxTokenMessage is the length of the longest message that is searched for a token.
	maxTokenMessage = 20 << 10
	// defaultTokenMember is the member of a first message with the token.
	defaultTokenMember = "token"
)

// awaitToken serves a client that sends its token in the first message. Until then it counts as a pending handshake,
// which pending_per_address bounds, and gets nothing. end tells the client that it is not logged in, and open opens the
// session of an identified client; open may read the request.
func (h *Handler) awaitToken(
	conn *ws.Conn, r *http.Request, auth clientAuth, reservation *hub.Reservation, end func(relay.Socket),
	open func(r *http.Request) ws.Handler,
) {
	p := &pendingClient{
		handler: h, conn: conn, auth: auth, reservation: reservation, end: end, open: open,
		request: r.WithContext(context.WithoutCancel(r.Context())),
	}
	p.timer = time.AfterFunc(auth.messages.FirstMessage(), func() {
		if p.decided.CompareAndSwap(false, true) {
			h.record(p.request, slog.LevelInfo, reject.NotLoggedIn, reservation.Address,
				errors.New("the client has sent no token in time"))
			end(conn)
		}
	})
	conn.Attend(p)
}

// pendingClient receives the messages of a client that sends its token in the first one. After that, it hands
// everything to the client's protocol.
type pendingClient struct {
	handler     *Handler
	conn        *ws.Conn
	auth        clientAuth
	reservation *hub.Reservation
	request     *http.Request
	end         func(relay.Socket)
	open        func(r *http.Request) ws.Handler
	timer       *time.Timer
	decided     atomic.Bool // the token has come, or the time is over

	next ws.Handler // nil until the client is identified; only the calls of Message and Ended use it
}

// Message implements [ws.Handler].
func (p *pendingClient) Message(text bool, data []byte) {
	if p.next != nil {
		p.next.Message(text, data)
		return
	}
	if !p.decided.CompareAndSwap(false, true) { // the connection is closing
		return
	}
	p.timer.Stop()
	ctx, cancel := context.WithTimeout(p.request.Context(), tokenTimeout)
	defer cancel()
	token := firstToken(data, p.auth.messages.RefreshMember())
	id, err := relay.Identity{}, error(relay.ErrUnauthenticated)
	if t, ok := p.auth.Authorizer.(relay.TokenAuthorizer); ok && token != "" && text {
		id, err = t.AuthenticateToken(ctx, token)
	}
	address := p.reservation.Address
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		p.handler.record(p.request, slog.LevelInfo, reject.NotLoggedIn, address, loginError(err))
		p.end(p.conn)
	case err != nil:
		p.handler.record(p.request, reject.AuthFailed.LogLevel(), reject.AuthFailed, address, err)
		p.conn.Close(relay.CloseTryLater, "authentication is unavailable")
	default:
		if err := p.reservation.Identify(id); err != nil {
			p.handler.record(p.request, reject.LimitReached.LogLevel(), reject.LimitReached, address, err)
			p.conn.Close(relay.CloseTryLater, err.Error())
			return
		}
		p.next = p.open(p.request.WithContext(ctx))
	}
	p.request, p.open = nil, nil // leave memory
}

// Ended implements [ws.Handler].
func (p *pendingClient) Ended() {
	p.decided.Store(true)
	p.timer.Stop()
	if p.next != nil {
		p.next.Ended()
		return
	}
	p.reservation.Release()
}

// firstToken returns the token of a first message: a JSON object with the member, or the token alone; empty if there is
// none.
func firstToken(message []byte, member string) string {
	message = bytes.TrimSpace(message)
	if len(message) > maxTokenMessage {
		return ""
	}
	if !bytes.HasPrefix(message, []byte("{")) {
		token := string(message)
		if len(token) > 7 && strings.EqualFold(token[:7], "Bearer ") {
			token = token[7:]
		}
		return token
	}
	if member == "" {
		member = defaultTokenMember
	}
	var object map[string]json.RawMessage
	var token string
	if json.Unmarshal(message, &object) != nil || json.Unmarshal(object[member], &token) != nil {
		return ""
	}
	return token
}

// withRefresh returns the receiver of a client's messages that takes new tokens out of them.
func (h *Handler) withRefresh(auth clientAuth, session relay.Session, next ws.Handler) ws.Handler {
	if auth.messages == nil || auth.messages.RefreshMember() == "" {
		return next
	}
	if _, ok := auth.Authorizer.(relay.TokenAuthorizer); !ok {
		return next
	}
	return &refreshingClient{
		Handler: next, node: h.app.node.Hub, log: h.app.node.Log, session: session,
		member: auth.messages.RefreshMember(),
	}
}

// refreshingClient receives the messages of a client that may replace its token.
type refreshingClient struct {
	ws.Handler
	node    *hub.Hub
	log     *slog.Logger
	session relay.Session
	member  string
}

// Message implements [ws.Handler]. A message with a token does not reach the client's protocol.
func (c *refreshingClient) Message(text bool, data []byte) {
	token, ok := "", false
	if text {
		token, ok = newToken(data, c.member)
	}
	if !ok {
		c.Handler.Message(text, data)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	id, err := c.session.Identity(), error(relay.ErrUnauthenticated)
	if t, ok := c.node.Authorizer().(relay.TokenAuthorizer); ok {
		err = t.Refresh(ctx, id, token)
	}
	if err == nil {
		return
	}
	c.log.Info("new token rejected", "user", id.Name, "address", relay.AddressText(c.session.Address()),
		"reason", err.Error())
	if errors.Is(err, relay.ErrUnauthenticated) {
		c.session.Socket().Close(relay.ClosePolicy, "the token is not valid")
	}
}

// newToken returns the token of a message that replaces one: a JSON object with the member, and besides it at most the
// member "type".
func newToken(message []byte, member string) (token string, ok bool) {
	if len(message) > maxTokenMessage || !bytes.Contains(message, []byte(member)) ||
		!bytes.HasPrefix(bytes.TrimSpace(message), []byte("{")) {
		return "", false
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(message, &object) != nil || json.Unmarshal(object[member], &token) != nil {
		return "", false
	}
	delete(object, member)
	delete(object, "type")
	return token, len(object) == 0
}

// loginError returns the reason for a log line about a client that is not logged in.
func loginError(err error) error {
	if err == relay.ErrUnauthenticated { //nolint:errorlint // the bare error has no reason
		return errNotLoggedIn
	}
	return err
}

// subprotocolOf returns the subprotocol to answer if the login came in one, empty otherwise.
func subprotocolOf(id relay.Identity) string {
	if s, ok := id.Credentials.(relay.SubprotocolLogin); ok {
		return s.AnswerSubprotocol()
	}
	return ""
}

// Closed implements [ws.CloseHandler].
func (p *pendingClient) Closed(code int, reason string) { closed(p.next, code, reason) }

// Closed implements [ws.CloseHandler].
func (c *refreshingClient) Closed(code int, reason string) { closed(c.Handler, code, reason) }

// closed passes a client's orderly close on.
func closed(to ws.Handler, code int, reason string) {
	if h, ok := to.(ws.CloseHandler); ok {
		h.Closed(code, reason)
	}
}

var (
	_ ws.CloseHandler = (*pendingClient)(nil)
	_ ws.CloseHandler = (*refreshingClient)(nil)
)
