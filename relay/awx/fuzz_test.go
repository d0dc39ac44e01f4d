package awx

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// answers carries every question to one answer.
type answers struct {
	status int
	body   []byte
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a.body)))}, nil
}

// FuzzAnswers gives all kinds of answers to the question who a user is, and whether one may see an object.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		`{"count": 1, "results": [{"id": 1, "username": "admin", "is_superuser": true}]}`, `{"results": []}`, `{"results": [{"id": "a-b", "username": "\ud800"}]}`, `{"results": [{"id": -1}]}`, `{"results": [{"id": 1e3}]}`,
		`{"results": [{"id": ""}]}`, `{"results": [{"id": null}]}`, `{"results": [{"ID": 1, "id": 2}]}`, `{"results": [null]}`, `[]`, `<html>`, ``, `{"results": [{"id": 01}]}`, `{"results": [{"id": "\u0000"}]}`,
	} {
		f.Add(200, []byte(body))
	}
	f.Add(401, []byte(""))
	f.Add(302, []byte(""))
	transport := &answers{}
	s := DefaultSettings()
	s.URL, s.Transport = "http://api.invalid", transport
	a, err := newAPI(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		transport.status, transport.body = status, body
		id, err := a.me(context.Background(), &credentials{cookie: "x"})
		switch {
		case err != nil && (id.Key != "" || id.ID != "" || id.Credentials != nil):
			t.Errorf("%d %q: %v, and yet %+v", status, body, err, id)
		case err == nil && (status != 200 || id.Key == "" || !json.Valid([]byte(id.ID)) || !json.Valid([]byte(id.Profile))):
			t.Errorf("%d %q is %+v", status, body, id)
		case err == nil && !json.Valid(acceptFrame(id.ID)):
			t.Errorf("%d %q: greeted with %s", status, body, acceptFrame(id.ID))
		case errors.Is(err, relay.ErrUnauthenticated) && status != 200 && status != 401 && status != 403:
			t.Errorf("%d %q: nobody", status, body)
		}
		if sees, err := a.sees(context.Background(), &credentials{}, "jobs", "1"); sees && (err != nil || status != 200) {
			t.Errorf("%d: may see it, %v", status, err)
		}
	})
}

// djangoSession is the session cookie that Django reads from a Cookie header.
func djangoSession(header string) (session string) {
	for chunk := range strings.SplitSeq(header, ";") {
		if name, value, ok := strings.Cut(chunk, "="); ok && strings.TrimSpace(name) == "awx_sessionid" {
			session = strings.TrimSpace(value)
		}
	}
	return session
}

// FuzzCredentials looks for two handshakes that share their answers although the application sees two logins in them.
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
		f.Add(pair[0], pair[1], "", "")
	}
	f.Add("awx_sessionid=a", "awx_sessionid=a", "Bearer x", "Bearer y")
	f.Add("", "x=1", "x", "")
	s := DefaultSettings()
	s.URL = "http://api.invalid"
	a, err := NewAuthorizer(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, one, two, authOne, authTwo string) {
		key := func(cookie, authorization string) string {
			r := &http.Request{Header: http.Header{"Cookie": {cookie}, "Authorization": {authorization}}}
			c := a.credentials(r)
			if c.cookie != cookie || c.authorization != authorization || len(c.key) > 32 {
				t.Fatalf("%q %q became %+v", cookie, authorization, c)
			}
			return c.key
		}
		first, second := key(one, authOne), key(two, authTwo)
		if first == "" && (djangoSession(one) != "" || authOne != "") {
			t.Errorf("%q, %q: no credentials", one, authOne)
		}
		if first == second && first != "" && (djangoSession(one) != djangoSession(two) || authOne != authTwo) {
			t.Errorf("%q, %q and %q, %q share their answers", one, authOne, two, authTwo)
		}
	})
}

// plainTexts are messages that are plain, and some that are nearly so.
var plainTexts = map[string]bool{
	`{"groups": {"jobs": ["status_changed", "summary"], "schedules": ["changed"], "control": ["limit_reached_1"]}, "xrftoken": "a!~"}`: true,
	"\t{\r\n\"xrftoken\":\"\",\"groups\":{\"job_events\":[0,42 , 1000],\"jobs\":[]}}\n ":                                               true,
	`{"groups":{}}`:                                true,
	`{}`:                                           true,
	`{"xrftoken": "t"}`:                            true,
	`{"groups": {"job_events": [-0]}}`:             false,
	`{"groups": {"job_events": [01]}}`:             false,
	`{"groups": {"job_events": [1.0]}}`:            false,
	`{"groups": {"job_events": ["4\u0032"]}}`:      false,
	`{"groups": {"jobs": ["a"], "jobs": []}}`:      false,
	`{"groups": {"jobs": ["a",]}}`:                 false,
	`{"groups": {"jobs": "a"}}`:                    false,
	`{"groups": {"jobs": [""], "": ["-"]}}`:        true,
	`{"groups": {}, "groups": {}}`:                 false,
	`{"groups": {}} {}`:                            false,
	`{"xrftoken": 1}`:                              false,
	`{"xrftoken": "\\"}`:                           false,
	`{"groups": null}`:                             false,
	`{"groups": {"jobs": ["a"]`:                    false,
	`{"x": {"groups": {"jobs": ["a"]}}}`:           false,
	`{"groups": {"é": ["a"]}}`:                     false,
	`{"groups": {"jobs": ["a b"], "xs": ["../"]}}`: false,
	`{"groups": {"a":[],"b":[],"c":[],"d":[],"e":[],"f":[],"g":[],"h":[]}}`:        true,
	`{"groups": {"a":[],"b":[],"c":[],"d":[],"e":[],"f":[],"g":[],"h":[],"i":[]}}`: false,
}

func TestPlainMessages(t *testing.T) {
	for text, plain := range plainTexts {
		if _, ok := parsePlain([]byte(text)); ok != plain {
			t.Errorf("%s is plain: %v, want %v", text, ok, plain)
		}
	}
}

// FuzzPlainMessage holds parsePlain against the way of all other messages.
func FuzzPlainMessage(f *testing.F) {
	for text := range plainTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, ok := parsePlain(text)
		if !ok {
			return
		}
		n, err := parseAny(text)
		if err != nil || m.token != n.token || m.asks != n.asks {
			t.Fatalf("%q: %+v; all others: %+v, %v", text, m, n, err)
		}
		if !m.asks {
			return
		}
		wishes, err := n.wishes()
		if err != nil || !slices.Equal(m.plain, wishes) {
			t.Errorf("%q: %q; all others: %q, %v", text, m.plain, wishes, err)
		}
	})
}
