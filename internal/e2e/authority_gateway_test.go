package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// jwt is a token of the gateway for a login, which expires at a time.
func jwt(login string, at time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg": "RS256"}`)) + "." + encode(fmt.Appendf(nil, `{"sub": %q, "exp": %d}`, login,
		at.Unix())) + ".c2lnbmF0dXJl"
}

// gatewayLogin is the login in such a token, if it has not expired.
func gatewayLogin(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var login string
	var exp int64
	if n, _ := fmt.Sscanf(string(text), `{"sub": %q, "exp": %d}`, &login, &exp); n != 2 || time.Now().Unix() >= exp {
		return ""
	}
	return login
}

// A handshake behind AAP's platform gateway has nothing but the gateway's token.
func TestGatewayToken(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "", "", "")
	c, _, err := wstest.Dial(t, r.URL+"/websocket/",
		http.Header{"X-Dab-Jw-Token": {jwt("user-7", time.Now().Add(time.Hour))}, "Cookie": {"csrftoken=t"}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Next(patience); err != nil || text != `{"accept": true, "user": 7}` {
		t.Fatalf("greeted with %q, %v", text, err)
	}
	if got := askFor(t, c, `{"job_events": [42]}`); len(got) != 1 {
		t.Errorf("subscribed to %q", got)
	}
	bad, _, err := wstest.Dial(t, r.URL+"/websocket/",
		http.Header{"X-Dab-Jw-Token": {jwt("nobody", time.Now().Add(time.Hour))}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := bad.Next(patience); err != nil || text != `{"close": true}` {
		t.Errorf("a bad token: %q, %v", text, err)
	}
}

// A login by a token that expires before the next recheck goes on, and ends when its grace time does.
func TestGatewayTokenThatExpires(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	expires := time.Now().Truncate(time.Second).Add(3 * time.Second)
	dial := func(r *peers.Relay) *wstest.Client {
		c, _, err := wstest.Dial(t, r.URL+"/websocket/",
			http.Header{"X-Dab-Jw-Token": {jwt("user-7", expires)}, "Cookie": {"csrftoken=t"}})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := c.Next(patience); err != nil || text != `{"accept": true, "user": 7}` {
			t.Fatalf("greeted with %q, %v", text, err)
		}
		askFor(t, c, `{"job_events": [42]}`)
		return c
	}
	r := api.site(t, "recheck 1s", "", "")
	stays := dial(r)
	// Rechecks of another login tell that time has passed.
	enter(t, r, as("user-8", ""))
	asked := 0
	testkit.Eventually(t, "three rechecks after the token's end", func() error {
		now := api.count("/api/v2/me/")
		if time.Now().Before(expires) {
			asked = now
		}
		if now < asked+3 {
			return fmt.Errorf("%d questions", now-asked)
		}
		return nil
	})
	publishHTTP(t, r, "job_events-42", `"still here"`)
	if text, err := stays.Next(patience); err != nil || text != `"still here"` {
		t.Errorf("after the token's end: %q, %v", text, err)
	}
	if err := stays.Send(`{"groups": {"job_events": [43]}, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
	if text, err := stays.Next(patience); wstest.CloseCode(err) != 1012 {
		t.Errorf("a question that needs a token: %q, %v; want a close with 1012, so that it comes with a new one",
			text, err)
	}
	expires = time.Now().Truncate(time.Second).Add(2 * time.Second)
	bounded := api.site(t, "recheck 1s\n\t\t\tgateway_token_grace 2s", "", "")
	if text, err := dial(bounded).Next(patience); wstest.CloseCode(err) != 1012 ||
		time.Now().Before(expires.Add(2*time.Second)) {
		t.Errorf("%v after the token's end: %q, %v; want a close with 1012 after 2s", time.Since(expires), text, err)
	}
}

// With a session and a bearer token of two users, AWX's websocket takes the session's.
func TestSessionCountsBeforeBearerToken(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "", "", "")
	h := as("user-7", "")
	h.Set("Authorization", "Bearer user-8")
	c, _, err := wstest.Dial(t, r.URL+"/websocket/", h)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Next(patience); err != nil || text != `{"accept": true, "user": 7}` {
		t.Errorf("greeted with %q, %v", text, err)
	}
	askFor(t, c, `{"job_events": [42]}`)
	for _, h := range api.headers {
		if h.Get("Authorization") != "" {
			t.Errorf("the API was shown %v", h)
		}
	}
	h.Set("Cookie", "csrftoken=t; awx_sessionid=ended")
	c, _, err = wstest.Dial(t, r.URL+"/websocket/", h)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Next(patience); err != nil || text != `{"accept": true, "user": 8}` {
		t.Errorf("with an ended session: greeted with %q, %v", text, err)
	}
}

// The API is told the client's address, as one value that no client chooses.
func TestAPIRequestsCarryTheClientAddress(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	r := api.site(t, "", "", behindProxy)
	enter(t, r, as("user-7", "6.6.6.6, 203.0.113.9"))
	direct := api.site(t, "", "", "")
	enter(t, direct, as("user-8", "6.6.6.6"))
	var told [][]string
	for _, h := range api.headers {
		told = append(told, h["X-Forwarded-For"])
	}
	if fmt.Sprint(told) != "[[203.0.113.9] [127.0.0.1]]" {
		t.Errorf("the API was told %q", told)
	}
}
