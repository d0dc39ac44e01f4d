package caddymodule

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// jwtSecret is the key of the tests' tokens.
const jwtSecret = "0123456789abcdef0123456789abcdef"

// jwtOf returns a token of a user that ends after a time, with further claims.
func jwtOf(user string, lifetime time.Duration, claims ...string) string {
	c := map[string]any{"sub": user, "exp": time.Now().Add(lifetime).Unix()}
	for i := 0; i+1 < len(claims); i += 2 {
		c[claims[i]] = json.RawMessage(claims[i+1])
	}
	payload, _ := json.Marshal(c)
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(payload)
	m := hmac.New(sha256.New, []byte(jwtSecret))
	m.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

const orders = `edgerelay {
	route /ws/orders/{id}/ {
		auth jwt {
			key ` + jwtSecret + `
			from header
			from query token
			from subprotocol access_token
			from message
			first_message_timeout 2s
			allow orders_{user.shops} user_{user}
			refresh token
			leeway 0
		}
		groups orders_{id} user_{user}
		on order.changed value state
		messages publish order.changed json state
	}
	path /ws/awx/
}`

// A route has an auth of its own, whose rules decide about the groups of the path.
func TestRouteWithTokens(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth caddy", orders)
	valid := jwtOf("7", time.Hour, "shops", `["1", 2]`)
	bearer := http.Header{"Authorization": {"Bearer " + valid}}
	first := s.dialRoute("/ws/orders/1/", bearer)
	second := s.dialRoute("/ws/orders/1/?token="+valid, nil)
	resp, _ := s.ask("/ws/orders/1/", "Sec-WebSocket-Protocol: access_token, "+valid)
	if p := resp.Header.Get("Sec-WebSocket-Protocol"); resp.StatusCode != 101 || p != "access_token" {
		t.Errorf("a token as subprotocol: %d, %q", resp.StatusCode, p)
	}
	fourth := s.dialRoute("/ws/orders/1/", nil)
	fourth.send(`{"type": "auth", "token": "` + valid + `"}`)
	first.send(`{"state": "paid"}`)
	for _, c := range []*routeClient{first, second} {
		c.next(`"paid"`)
	}
	fourth.send(`{"state": "sent"}`)
	for _, c := range []*routeClient{first, second} {
		c.next(`"sent"`)
	}
	if text, err := fourth.socket.Next(patience); err != nil || text != `"paid"` && text != `"sent"` {
		t.Errorf("the client with a token in its first message: %q, %v", text, err)
	}

	if resp, _ := s.ask("/ws/orders/3/?token=" + valid); resp.StatusCode != 403 {
		t.Errorf("a group without a rule: %d", resp.StatusCode)
	}
	other := s.dialRoute("/ws/orders/3/", nil)
	other.send(`{"token": "` + valid + `"}`)
	other.closed(1008)
	for _, message := range []string{"x.y.z", `{"token": "x"}`, `{"message": "hi"}`, ""} {
		c := s.dialRoute("/ws/orders/1/", nil)
		c.send(message)
		c.closed(4401)
	}
	silent := s.dialRoute("/ws/orders/1/", nil)
	silent.closed(4401)
}

// The end of a token closes the WebSocket, unless the client has sent a new one of the same user.
func TestTokenEnds(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth caddy", orders)
	open := func() *routeClient {
		return s.dialRoute("/ws/orders/1/?token="+jwtOf("7", 2*time.Second, "shops", `"1"`), nil)
	}
	short, long, wrong := open(), open(), open()
	long.send(`{"token": "` + jwtOf("7", time.Hour, "shops", `"1"`) + `"}`)
	wrong.send(`{"token": "` + jwtOf("8", time.Hour, "shops", `"1"`) + `"}`)
	wrong.closed(1008)
	short.closed(1012)
	long.send(`{"state": "paid"}`)
	long.next(`"paid"`)
}

// A new token with other claims ends a client whose groups are made of them, and no other client.
func TestRefreshWithdrawsGrantedGroups(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth caddy", `edgerelay {
	route /ws/teams/ {
		auth jwt {
			key `+jwtSecret+`
			from query token
			refresh token
			recheck 200ms
		}
		groups team_{user.teams}
		on order.changed value state
		messages publish order.changed json state
	}
}`)
	open := func() *routeClient {
		return s.dialRoute("/ws/teams/?token="+jwtOf("7", time.Hour, "teams", `["a", "b"]`), nil)
	}
	moved, same := open(), open()
	moved.send(`{"token": "` + jwtOf("7", 2*time.Hour, "teams", `["a"]`) + `"}`)
	same.send(`{"token": "` + jwtOf("7", 2*time.Hour, "teams", `["b", "a"]`) + `"}`)
	moved.closed(1012)
	same.send(`{"state": "paid"}`)
	same.next(`"paid"`)
}

// A reload with other rules keeps the route's clients. Without the route's auth they end.
func TestReloadOfRouteAuth(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth caddy", orders)
	c := s.dialRoute("/ws/orders/1/?token="+jwtOf("7", time.Hour, "shops", `"1"`), nil)
	s.mustLoad("auth caddy", orders+"\nrespond next")
	c.send(`{"state": "paid"}`)
	c.next(`"paid"`)
	s.mustLoad("auth caddy", "edgerelay")
	if text, err := c.socket.Next(patience); err == nil || wstest.CloseCode(err) <= 0 {
		t.Errorf("%q, %v; want a close frame", text, err)
	}
}

// AWX's protocol takes tokens, too. The greeting comes after the token.
func TestTokensInAWXsProtocol(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth jwt {\nkey "+jwtSecret+"\nfrom message\nallow orders-*\n}", "edgerelay")
	c := s.dial("/websocket/", csrf)
	if err := c.Send(jwtOf("ann", time.Hour)); err != nil {
		t.Fatal(err)
	}
	next(t, c, `{"accept": true, "user": "ann"}`)
	if err := c.Send(subscription("orders-1")); err != nil {
		t.Fatal(err)
	}
	next(t, c, `{"groups_current": ["orders-1"], "groups_left": [], "groups_joined": ["orders-1"]}`)
}
