package jwt_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

func TestIdentity(t *testing.T) {
	a := newAuthorizer(t, func(s *jwt.Settings) { s.UserClaim, s.NameClaim = "user_id", "profile.name" })
	id := identify(t, a, sign(t, "HS256", secret, nil,
		object{"user_id": 42, "profile": object{"name": "Ann"}, "exp": in(time.Hour)}))
	if id.ID != "42" || id.Key != "42" || id.Name != "Ann" || !strings.Contains(id.Profile, `"user_id":42`) {
		t.Errorf("got %+v", id)
	}
	id = identify(t, a, sign(t, "HS256", secret, nil, object{"user_id": `a"b`, "exp": in(time.Hour)}))
	if id.ID != `"a\"b"` || id.Key != `a"b` || id.Name != `a"b` {
		t.Errorf("got %+v", id)
	}
}

func TestSources(t *testing.T) {
	token := sign(t, "HS256", secret, nil, object{"sub": "7", "exp": in(time.Hour)})
	for name, c := range map[string]struct {
		source      jwt.Source
		target      string
		header      []string // name: value
		subprotocol string
		err         error
	}{
		"header":               {jwt.Source{Kind: jwt.FromHeader, Name: "authorization"}, "/", []string{"Authorization: Bearer " + token}, "", nil},
		"header, lower case":   {jwt.Source{Kind: jwt.FromHeader, Name: "Authorization"}, "/", []string{"Authorization: bearer  " + token}, "", nil},
		"basic":                {jwt.Source{Kind: jwt.FromHeader, Name: "Authorization"}, "/", []string{"Authorization: Basic " + token}, "", relay.ErrUnauthenticated},
		"no scheme":            {jwt.Source{Kind: jwt.FromHeader, Name: "Authorization"}, "/", []string{"Authorization: " + token}, "", relay.ErrUnauthenticated},
		"own header":           {jwt.Source{Kind: jwt.FromHeader, Name: "X-Token"}, "/", []string{"X-Token: " + token}, "", nil},
		"cookie":               {jwt.Source{Kind: jwt.FromCookie, Name: "jwt"}, "/", []string{"Cookie: a=b; jwt=" + token}, "", nil},
		"other cookie":         {jwt.Source{Kind: jwt.FromCookie, Name: "jwt"}, "/", []string{"Cookie: jwt2=" + token}, "", relay.ErrUnauthenticated},
		"query":                {jwt.Source{Kind: jwt.FromQuery, Name: "token"}, "/?x=1&token=" + token, nil, "", nil},
		"subprotocol":          {jwt.Source{Kind: jwt.FromSubprotocol, Name: "bearer"}, "/", []string{"Sec-WebSocket-Protocol: v1, bearer, " + token}, "bearer", nil},
		"subprotocol, nothing": {jwt.Source{Kind: jwt.FromSubprotocol, Name: "bearer"}, "/", []string{"Sec-WebSocket-Protocol: bearer"}, "", relay.ErrUnauthenticated},
		"prefix":               {jwt.Source{Kind: jwt.FromSubprotocol, Name: "auth."}, "/", []string{"Sec-WebSocket-Protocol: v1, auth." + token}, "v1", nil},
		"form":                 {jwt.Source{Kind: jwt.FromSubprotocol}, "/", []string{"Sec-WebSocket-Protocol: " + token + ", v1"}, "v1", nil},
		"form alone":           {jwt.Source{Kind: jwt.FromSubprotocol}, "/", []string{"Sec-WebSocket-Protocol: " + token}, token, nil},
		"message":              {jwt.Source{Kind: jwt.FromMessage}, "/", nil, "", relay.ErrTokenAwaited},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthorizer(t, func(s *jwt.Settings) { s.Sources = []jwt.Source{c.source} })
			r := httptest.NewRequest("GET", c.target, nil)
			for _, line := range c.header {
				name, value, _ := strings.Cut(line, ": ")
				r.Header.Add(name, value)
			}
			id, err := a.Authenticate(r)
			if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err == nil {
				if got := id.Credentials.(relay.SubprotocolLogin).AnswerSubprotocol(); got != c.subprotocol {
					t.Errorf("subprotocol %q, want %q", got, c.subprotocol)
				}
			}
		})
	}
	// A token that is there counts, and the first message is not awaited.
	a := newAuthorizer(t, func(s *jwt.Settings) {
		s.Sources = []jwt.Source{{Kind: jwt.FromMessage}, {Kind: jwt.FromHeader, Name: "Authorization"}}
	})
	if _, err := a.Authenticate(bearer("a.b.c")); errors.Is(err, relay.ErrTokenAwaited) || err == nil {
		t.Errorf("got %v", err)
	}
	id, err := a.AuthenticateToken(t.Context(), token)
	if err != nil || id.Key != "7" {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestGroupsByClaims(t *testing.T) {
	token := sign(t, "HS256", secret, nil, object{
		"sub": "7", "org": "acme", "exp": in(time.Hour), "groups": []string{"news", "orders-*", ""},
	})
	a := newAuthorizer(t, func(s *jwt.Settings) {
		s.Allow, s.GroupsClaim = []string{"user-{user}", "org-{user.org}-*"}, "groups"
	})
	id := identify(t, a, token)
	for group, ok := range map[string]bool{
		"user-7": true, "user-8": false, "org-acme-1": true, "org-acm-1": false, "news": true, "news2": false,
		"orders-1": true, "order": false, "": false,
	} {
		err := a.Authorize(t.Context(), id, group)
		if (err == nil) != ok || err != nil && !errors.Is(err, relay.ErrDenied) {
			t.Errorf("%s: %v", group, err)
		}
	}
	bare := newAuthorizer(t, func(s *jwt.Settings) { s.Allow = nil })
	err := bare.Authorize(t.Context(), identify(t, bare, token), "user-7")
	if !errors.Is(err, relay.ErrDenied) || !strings.Contains(err.Error(), "add allow") {
		t.Errorf("without rules: %v", err)
	}
	if err := a.Authorize(t.Context(), relay.Identity{Key: "7"}, "user-7"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("foreign credentials: %v", err)
	}
}

func TestExpiryEndsTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthorizer(t, nil)
		end := time.Now().Add(time.Minute).Truncate(time.Second)
		id := identify(t, a, sign(t, "HS256", secret, nil, object{"sub": "7", "exp": end.Unix()}))
		until := id.Credentials.(relay.ExpiringLogin).Until()
		if want := end.Add(jwt.DefaultSettings().Leeway); !until.Equal(want) {
			t.Errorf("until %v, want %v", until, want)
		}
		time.Sleep(time.Until(until) - time.Millisecond)
		if err := a.Recheck(t.Context(), id); err != nil {
			t.Errorf("before the end: %v", err)
		}
		time.Sleep(time.Millisecond)
		if err := a.Recheck(t.Context(), id); !errors.Is(err, relay.ErrExpired) {
			t.Errorf("after the end: %v", err)
		}
		if err := a.Authorize(t.Context(), id, "user-7"); !errors.Is(err, relay.ErrExpired) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestRefresh(t *testing.T) {
	a := newAuthorizer(t, func(s *jwt.Settings) { s.GroupsClaim = "groups" })
	id := identify(t, a, sign(t, "HS256", secret, nil, object{"sub": "7", "exp": in(time.Minute), "groups": []string{"a"}}))
	c := id.Credentials.(relay.ExpiringLogin)
	first := c.Until()
	for name, token := range map[string]string{
		"another user": sign(t, "HS256", secret, nil, object{"sub": "8", "exp": in(time.Hour)}),
		"number":       sign(t, "HS256", secret, nil, object{"sub": 7, "exp": in(time.Hour)}),
		"expired":      sign(t, "HS256", secret, nil, object{"sub": "7", "exp": in(-time.Hour)}),
		"garbage":      "x.y.z",
	} {
		if err := a.Refresh(t.Context(), id, token); !errors.Is(err, relay.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !c.Until().Equal(first) {
		t.Error("a rejected token changed the login")
	}
	token := sign(t, "HS256", secret, nil, object{"sub": "7", "exp": in(time.Hour), "groups": []string{"b"}})
	if err := a.Refresh(t.Context(), id, token); err != nil {
		t.Fatal(err)
	}
	if !c.Until().After(first) {
		t.Error("the new token did not extend the login")
	}
	if a.RecheckGroup(t.Context(), id, "b") != nil || !errors.Is(a.RecheckGroup(t.Context(), id, "a"), relay.ErrDenied) {
		t.Error("the groups are not those of the new token")
	}
}

// After a reload, the new settings count for open connections.
func TestReloadJudgesAgain(t *testing.T) {
	token := sign(t, "HS256", secret, nil, object{"sub": "7", "exp": in(time.Hour), "aud": "shop"})
	before := newAuthorizer(t, func(s *jwt.Settings) { s.Audiences = []string{"shop"} })
	id := identify(t, before, token)
	for name, c := range map[string]struct {
		change func(*jwt.Settings)
		want   error
	}{
		"same":           {func(s *jwt.Settings) { s.Audiences = []string{"shop"} }, nil},
		"other audience": {func(s *jwt.Settings) { s.Audiences = []string{"blog"} }, relay.ErrUnauthenticated},
		"other secret":   {func(s *jwt.Settings) { s.Key = "x" + secret }, relay.ErrExpired},
		"other user":     {func(s *jwt.Settings) { s.Audiences, s.UserClaim = []string{"shop"}, "aud" }, relay.ErrUnauthenticated},
	} {
		after := newAuthorizer(t, c.change)
		after.Succeed(before)
		if err := after.Recheck(t.Context(), id); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	after := newAuthorizer(t, func(s *jwt.Settings) { s.Audiences, s.Allow = []string{"shop"}, []string{"other"} })
	if err := after.RecheckGroup(t.Context(), id, "user-7"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("a group without a rule: %v", err)
	}
}
