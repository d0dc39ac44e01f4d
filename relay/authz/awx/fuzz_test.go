package awx

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// fixedResponse is a transport that returns one response to every request.
type fixedResponse struct {
	status int
	body   []byte
}

func (a *fixedResponse) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a.body))),
	}, nil
}

// FuzzResponses feeds arbitrary responses to user and object lookups.
func FuzzResponses(f *testing.F) {
	for _, body := range []string{
		`{"count": 1, "results": [{"id": 1, "username": "admin", "is_superuser": true}]}`, `{"results": []}`,
		`{"results": [{"id": "a-b", "username": "\ud800"}]}`, `{"results": [{"id": -1}]}`,
		`{"results": [{"id": 1e3}]}`, `{"results": [{"id": ""}]}`, `{"results": [{"id": null}]}`,
		`{"results": [{"ID": 1, "id": 2}]}`, `{"results": [null]}`, `[]`, `<html>`, ``,
		`{"results": [{"id": 01}]}`, `{"results": [{"id": "\u0000"}]}`,
	} {
		f.Add(200, []byte(body))
	}
	f.Add(401, []byte(""))
	f.Add(302, []byte(""))
	transport := &fixedResponse{}
	s := DefaultSettings()
	s.URL, s.Transport = "http://api.invalid", transport
	a, err := newAPI(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		transport.status, transport.body = status, body
		id, err := a.fetchUser(context.Background(), &credentials{cookie: "x"}, authority.Requester{})
		switch {
		case err != nil && (id.Key != "" || id.ID != "" || id.Credentials != nil):
			t.Errorf("%d %q: error %v with identity %+v", status, body, err, id)
		case err == nil && (status != 200 || id.Key == "" || !json.Valid([]byte(id.ID)) || !json.Valid([]byte(id.Profile))):
			t.Errorf("%d %q: identity %+v", status, body, id)
		case errors.Is(err, relay.ErrUnauthenticated) && status != 200 && status != 401 && status != 403:
			t.Errorf("%d %q: unauthenticated", status, body)
		}
		object := strings.Contains(string(body), "{")
		if canSee, err := a.canSee(context.Background(), &credentials{}, authority.Requester{}, relay.User, "jobs/1/"); canSee &&
			(err != nil || status != 200 || !object) {
			t.Errorf("%d %q: object visible, error %v", status, body, err)
		}
	})
}

// djangoSession returns the session cookie that Django reads from a Cookie header.
func djangoSession(header string) (session string) {
	for chunk := range strings.SplitSeq(header, ";") {
		if name, value, ok := strings.Cut(chunk, "="); ok && strings.TrimSpace(name) == "awx_sessionid" {
			session = strings.TrimSpace(value)
		}
	}
	return session
}

// FuzzCredentials looks for two handshakes with one cache key that AWX would treat as different logins.
func FuzzCredentials(f *testing.F) {
	for _, pair := range [][2]string{
		{"awx_sessionid=a", "awx_sessionid=b"},
		{"awx_sessionid=a; x=1", "x=2; awx_sessionid=a"},
		{"awx_sessionid=a; awx_sessionid=b", "awx_sessionid=b; awx_sessionid=a"},
		{`awx_sessionid="a"`, "awx_sessionid=a"},
		{"awx_sessionid=; awx_sessionid=a", "awx_sessionid=a"},
		{"awx_sessionid=a; awx_sessionid=", "awx_sessionid=a"},
		{"awx_sessionid", "awx_sessionid="},
		{"csrftoken=1", ""},
		{"\u00a0awx_sessionid=a; awx_sessionid=b", "awx_sessionid=b"},
		{"x=1", "x=1;"},
		{`awx_sessionid=a; awx_sessionid="`, "awx_sessionid=a"},
		{`awx_sessionid=a; awx_sessionid=""`, "awx_sessionid=a"},
		{"awx_sessionid=a; awx_sessionid= ", "awx_sessionid=a"},
	} {
		f.Add(pair[0], pair[1], "", "", "", "")
		f.Add(pair[0], pair[1], "Bearer x", "", "", "e.e.s")
	}
	f.Add("awx_sessionid=a", "awx_sessionid=a", "Bearer x", "Bearer y", "", "")
	f.Add("", "x=1", "x", "", "e.e.s", "e.f.s")
	s := DefaultSettings()
	s.URL = "http://api.invalid"
	a, err := NewAuthorizer(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, one, two, authOne, authTwo, tokenOne, tokenTwo string) {
		seen := map[string]*credentials{}
		for _, h := range [][3]string{{one, authOne, tokenOne}, {two, authTwo, tokenTwo}} {
			cookie, authorization, token := h[0], h[1], h[2]
			list, err := a.candidates(&http.Request{Header: http.Header{
				"Cookie": {cookie}, "Authorization": {authorization}, http.CanonicalHeaderKey(gatewayHeader): {token},
			}})
			if err != nil {
				if len(cookie)+len(authorization)+len(token) <= maxCredentialBytes {
					t.Fatalf("%q: %v", h, err)
				}
				continue
			}
			if len(list) == 0 && (djangoSession(cookie) != "" || authorization != "" || token != "") {
				t.Errorf("%q: no credentials", h)
			}
			for _, c := range list {
				if c.cookie != "" && c.cookie != cookie || c.authorization != "" && c.authorization != authorization ||
					c.token != "" && c.token != token || len(c.key) != 32 {
					t.Fatalf("%q became %+v", h, c)
				}
				if !c.renewAt.IsZero() && (c.cookie != "" || c.authorization != "") {
					t.Errorf("%q: a login that outlives its token has other credentials besides", h)
				}
				other := seen[c.key]
				if seen[c.key] = c; other == nil {
					continue
				}
				if djangoSession(other.cookie) != djangoSession(c.cookie) || other.authorization != c.authorization ||
					other.token != c.token {
					t.Errorf("%+v and %+v share a cache key", other, c)
				}
			}
		}
	})
}

// FuzzTokenExpiry reads tokens that no one has verified.
func FuzzTokenExpiry(f *testing.F) {
	encode := base64.RawURLEncoding.EncodeToString
	for claims, want := range map[string]int64{
		`{"exp": 1700000000}`: 1_700_000_000, `{"exp": 1.7e9}`: 1_700_000_000,
		`{"exp": 1700000000.9}`: 1_700_000_000, `{"a": [1, {}], "exp": 5}`: 5,
		`{}`: 0, `{"exp": null}`: 0, `{"exp": "1700000000"}`: 0, `{"exp": 0}`: 0, `{"exp": -5}`: 0,
		`{"exp": 1e300}`: 0, `{"exp": 1e400}`: 0, `[]`: 0, ``: 0, `{"exp": 5`: 0,
	} {
		token := encode([]byte(`{"alg": "RS256"}`)) + "." + encode([]byte(claims)) + ".c2lnbmF0dXJl"
		if got := tokenExpiry(token); got.IsZero() != (want == 0) || want != 0 && got.Unix() != want {
			f.Errorf("%s expires at %v, want %d", claims, got, want)
		}
		f.Add(token)
	}
	f.Add("..")
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, token string) {
		if at := tokenExpiry(token); !at.IsZero() && (at.Unix() < 0 || at.Unix() > maxExpiry) {
			t.Errorf("%q expires at %v", token, at)
		}
	})
}
