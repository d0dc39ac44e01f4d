package awx_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// gatewayToken returns a token of the gateway that expires at a time.
func gatewayToken(at time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg": "RS256"}`)) + "." + encode(fmt.Appendf(nil, `{"sub": "u", "exp": %d}`, at.Unix())) +
		".c2lnbmF0dXJl"
}

// modernAPI behaves like AWX's HTTP API since 24.0. The gateway's token takes precedence, and an invalid one is
// rejected; then come a bearer token and the session. Valid credentials begin with "good-" and the user's name.
func modernAPI(w http.ResponseWriter, r *http.Request) {
	credential := r.Header.Get("X-DAB-JW-TOKEN")
	if credential == "" {
		credential = r.Header.Get("Authorization")
	}
	if c, err := r.Cookie("awx_sessionid"); credential == "" && err == nil {
		credential = c.Value
	}
	_, user, good := strings.Cut(credential, "good-")
	if !good {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = fmt.Fprintf(w, `{"results": [{"id": %q}]}`, user)
}

// Of several credentials, those count that AWX's WebSocket would use: the session, then the gateway's token, then the
// rest in the order of the HTTP API. All later requests send the same ones.
func TestOrderOfCredentials(t *testing.T) {
	for _, c := range []struct {
		name, cookie, authorization, token string
		user                               string
		sent                               []string // the credentials of each request to authenticate
		later                              string   // those of an object lookup or recheck
	}{
		{"a session", "good-alice", "", "", "alice", []string{"s"}, "s"},
		{"a bearer token", "", "Bearer good-bob", "", "bob", []string{"a"}, "a"},
		{"a token of the gateway", "", "", "good-carol", "carol", []string{"g"}, "g"},
		{"a session, a bearer token", "good-alice", "Bearer good-bob", "", "alice", []string{"s"}, "s"},
		{"a session, a token of the gateway", "good-alice", "", "good-carol", "alice", []string{"s"}, "s"},
		{"all three", "good-alice", "Bearer good-bob", "good-carol", "alice", []string{"s"}, "s"},
		{"an ended session, a bearer token", "ended", "Bearer good-bob", "", "bob", []string{"s", "sa"}, "sa"},
		{"an ended session, a token of the gateway", "ended", "", "good-carol", "carol", []string{"s", "g"}, "g"},
		{"a bearer token, a token of the gateway", "", "Bearer good-bob", "good-carol", "carol", []string{"g"}, "g"},
		{"a bearer token, a bad token of the gateway", "", "Bearer good-bob", "forged", "", []string{"g", "ag"}, ""},
		{"nothing good", "ended", "Bearer bad", "forged", "", []string{"s", "g", "sag"}, ""},
		{"an ended session", "ended", "", "", "", []string{"s"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newController(t, modernAPI)
			a := api.authorizer(t, nil)
			r := handshake()
			for name, value := range map[string]string{"Authorization": c.authorization, "X-DAB-JW-TOKEN": c.token} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if c.cookie != "" {
				r.Header.Set("Cookie", "csrftoken=t; awx_sessionid="+c.cookie)
			}
			sent := func() (list []string) {
				for _, q := range api.requests {
					headers := ""
					for i, name := range []string{"Cookie", "Authorization", "X-DAB-JW-TOKEN"} {
						if q.Header.Get(name) != "" {
							headers += string("sag"[i])
						}
					}
					list = append(list, headers)
				}
				return list
			}
			id, err := a.Authenticate(r)
			if c.user == "" {
				if !errors.Is(err, relay.ErrUnauthenticated) {
					t.Errorf("%+v, %v; want ErrUnauthenticated", id, err)
				}
			} else if err != nil || id.Key != c.user {
				t.Fatalf("%+v, %v; want %s", id, err, c.user)
			}
			if got := sent(); !slices.Equal(got, c.sent) {
				t.Errorf("sent credentials %q, want %q", got, c.sent)
			}
			if c.user == "" {
				return
			}
			if err := a.Authorize(t.Context(), id, "job_events-1"); err != nil {
				t.Error(err)
			}
			if err := a.Recheck(t.Context(), id); err != nil {
				t.Error(err)
			}
			for _, later := range sent()[len(c.sent):] {
				if later != c.later {
					t.Errorf("a later request sends %q, want %q", later, c.later)
				}
			}
		})
	}
}

// A failed request for the first of several credentials is not a rejection.
func TestFailureIsNotRejection(t *testing.T) {
	api := newController(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		modernAPI(w, r)
	})
	_, err := api.authorizer(t, nil).Authenticate(handshake("Cookie: awx_sessionid=good-alice",
		"Authorization: Bearer good-bob"))
	if err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error of the API", err)
	}
}

// A login by the gateway's token outlives the token for the grace period; then the client must reconnect with a new
// token. Until the token expires, the login is rechecked like any other.
func TestExpiredTokenKeepsLoginForGrace(t *testing.T) {
	const life, grace = 30 * time.Second, 15 * time.Minute
	edit := func(s *awx.Settings) { s.TokenGrace = grace }
	connect := func(t *testing.T, c *site) (*hub.Session, *endSocket, time.Time) {
		expires := time.Now().Add(life)
		c.api.setStatus(func(string, string) int {
			if time.Now().Before(expires) {
				return 200
			}
			return 401
		})
		s, socket := c.connect(t, handshake("X-DAB-JW-TOKEN: "+gatewayToken(expires)))
		if _, err := s.Subscribe(t.Context(), relay.Groups("job_events-42")); err != nil {
			t.Fatal(err)
		}
		return s, socket, expires
	}
	t.Run("stays for the grace period", func(t *testing.T) {
		inSite(t, 10*time.Millisecond, time.Minute, 5*time.Minute, edit, func(t *testing.T, c *site) {
			s, socket, expires := connect(t, c)
			time.Sleep(5 * time.Minute)
			if code, _ := socket.ended(); code != 0 || socket.last() != "" {
				t.Fatalf("closed with %d, last frame %s", code, socket.last())
			}
			if err := c.auth.Authorize(t.Context(), s.Identity(), "job_events-43"); !errors.Is(err,
				relay.ErrExpired) {
				t.Errorf("a new subscription: %v, want ErrExpired", err)
			}
			if err := c.auth.Authorize(t.Context(), s.Identity(), "jobs-summary"); err != nil {
				t.Errorf("a subscription that needs no request: %v", err)
			}
			time.Sleep(grace)
			code, at := socket.ended()
			if took := at.Sub(expires); code != relay.CloseRestart || took < grace || took > grace+time.Second {
				t.Errorf("closed with %d %v after the token's end, want %d after %v", code, took, relay.CloseRestart,
					grace)
			}
		})
	})
	t.Run("a logout before the token expires", func(t *testing.T) {
		inSite(t, 10*time.Millisecond, 5*time.Second, 5*time.Minute, edit, func(t *testing.T, c *site) {
			_, socket, _ := connect(t, c)
			c.api.setStatus(func(string, string) int { return 401 })
			time.Sleep(6 * time.Second)
			if code, _ := socket.ended(); code != relay.CloseNormal {
				t.Errorf("closed with %d", code)
			}
		})
	})
	t.Run("a forged token beside another login", func(t *testing.T) {
		inSite(t, 10*time.Millisecond, time.Minute, 5*time.Minute, edit, func(t *testing.T, c *site) {
			c.api.setStatus(func(login, _ string) int { // an AWX without support for such tokens
				if strings.Contains(login, "Bearer") {
					return 200
				}
				return 401
			})
			_, socket := c.connect(t, handshake("X-DAB-JW-TOKEN: "+gatewayToken(time.Now().Add(life)),
				"Authorization: Bearer b"))
			time.Sleep(2 * time.Minute)
			if code, _ := socket.ended(); code != 0 {
				t.Fatalf("closed with %d", code)
			}
			c.api.setStatus(func(string, string) int { return 401 })
			time.Sleep(61 * time.Second)
			if code, _ := socket.ended(); code != relay.CloseNormal {
				t.Errorf("the end of the bearer token went unnoticed: code %d", code)
			}
		})
	})
}

func TestUnknownKindsOfGroup(t *testing.T) {
	c := newController(t, objects)
	for _, g := range []struct {
		kind, item  string
		allow, deny bool
	}{
		{kind: "orders", item: "17", allow: true, deny: false},
		{kind: "metrics", item: "x", allow: true, deny: false},
		{kind: "jobs", item: "status_changed", allow: true, deny: true},
		{kind: "jobs", item: "summary", allow: true, deny: true},
		{kind: "schedules", item: "changed", allow: true, deny: true},
		{kind: "inventories", item: "status_changed", allow: true, deny: true},
		{kind: "control", item: "limit_reached_7", allow: true, deny: true},
		{kind: "control", item: "limit_reached_1", allow: false, deny: false},
		{kind: "job_events", item: "1", allow: true, deny: true},
	} {
		for _, deny := range []bool{false, true} {
			a := c.authorizer(t, func(s *awx.Settings) { s.DenyOthers = deny })
			err := a.Authorize(t.Context(), login(t, a), g.kind+"-"+g.item)
			if want := deny && g.deny || !deny && g.allow; (err == nil) != want {
				t.Errorf("DenyOthers %v: %s-%s: %v", deny, g.kind, g.item, err)
			}
			if g.kind == "control" && err != nil && !errors.Is(err, relay.ErrOtherUser) {
				t.Errorf("%v, want ErrOtherUser", err)
			}
		}
	}
}
