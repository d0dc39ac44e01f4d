package awx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// resources are the kinds of group that belong to an object, and whether AWX itself checks them.
var resources = []struct {
	kind, resource string
	always         bool
}{
	{"job_events", "jobs", true},
	{"workflow_events", "workflow_jobs", true},
	{"ad_hoc_command_events", "ad_hoc_commands", true},
	{"project_update_events", "project_updates", false},
	{"inventory_update_events", "inventory_updates", false},
	{"system_job_events", "system_jobs", false},
}

// Who sees object 1 may not see 2, 3 and 4; 5 cannot be found out.
func objects(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v2/me/" {
		user(`7`)(w, r)
		return
	}
	status, ok := map[string]int{"1": 200, "2": 403, "3": 404, "4": 401, "5": 500, "6": 301}[path.Base(r.URL.Path)]
	if !ok {
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"id": 1}`)
}

func login(t *testing.T, a *awx.Authorizer) relay.Identity {
	t.Helper()
	id, err := a.Authenticate(handshake(session))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestObjectAccess(t *testing.T) {
	for _, strict := range []bool{true, false} {
		c := newController(t, objects)
		a := c.authorizer(t, func(s *awx.Settings) { s.Strict = strict })
		id := login(t, a)
		for _, k := range resources {
			before := len(c.asked())
			for item := 1; item <= 6; item++ {
				err := a.Authorize(t.Context(), id, k.kind, fmt.Sprint(item))
				switch {
				case item == 1 || !strict && !k.always:
					if err != nil {
						t.Errorf("strict %v: %s-%d: %v, want access", strict, k.kind, item, err)
					}
				case item < 5:
					if !errors.Is(err, relay.ErrDenied) {
						t.Errorf("strict %v: %s-%d: %v, want it denied", strict, k.kind, item, err)
					}
				case item == 5 && k.resource == "system_jobs":
					// TestSystemJobsOfOrdinaryUsers
				default:
					if err == nil || errors.Is(err, relay.ErrDenied) {
						t.Errorf("strict %v: %s-%d: %v, want an error of the API", strict, k.kind, item, err)
					}
				}
			}
			asked := c.asked()[before:]
			if !strict && !k.always {
				if len(asked) > 0 {
					t.Errorf("lax: asked for %q", asked)
				}
				continue
			}
			for i, path := range asked {
				if want := fmt.Sprintf("/api/v2/%s/%d/", k.resource, i+1); path != want {
					t.Errorf("asked for %s, want %s", path, want)
				}
			}
			if len(asked) != 6 {
				t.Errorf("strict %v: %s: asked %d times", strict, k.kind, len(asked))
			}
		}
	}
}

func TestOpenGroups(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	for _, w := range [][2]string{{"jobs", "status_changed"}, {"jobs", "summary"}, {"schedules", "changed"}, {"inventories", "status_changed"}, {"control", "limit_reached_7"}} {
		if err := a.Authorize(t.Context(), id, w[0], w[1]); err != nil {
			t.Errorf("%s-%s: %v", w[0], w[1], err)
		}
	}
	if asked := c.asked(); len(asked) != 1 {
		t.Errorf("asked for %q", asked)
	}
}

func TestControlIsForItsOwnUser(t *testing.T) {
	c := newController(t, objects)
	id := login(t, c.authorizer(t, nil))
	for _, item := range []string{"limit_reached_8", "limit_reached_", "limit_reached_70", "limit_reached_07", "limit_reached_7 ", "", "x", "limit_reached_7-7"} {
		if err := c.authorizer(t, nil).Authorize(t.Context(), id, "control", item); !errors.Is(err, relay.ErrDenied) {
			t.Errorf("strict: control-%s: %v", item, err)
		}
		if err := c.authorizer(t, func(s *awx.Settings) { s.Strict = false }).Authorize(t.Context(), id, "control", item); err != nil {
			t.Errorf("lax: control-%s: %v", item, err)
		}
	}
}

// What is no id never becomes a path of the API.
func TestIDsThatAreNone(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	for _, item := range []string{
		"", "42/../43", "42%2f..", "42/", "/42", "../me", "%34%32", "42?x=1", "42#", "42;x", "٤٢", "４２", "1e2", "1E2", "042", "00", "+42", "-42", "-0", " 42", "42 ", "42\n", "42\x00", "\x0042",
		"4\n2", "0x2a", "1.0", "1_000", "abc", "4a2", "42,43", "42\r\nX: y", strings.Repeat("9", 30), strings.Repeat("9", 19), strings.Repeat("1", 1<<16), "\xff",
	} {
		for _, k := range resources {
			if err := a.Authorize(t.Context(), id, k.kind, item); !errors.Is(err, relay.ErrDenied) {
				t.Errorf("%s-%q: %v, want it denied", k.kind, item, err)
			}
		}
	}
	if asked := c.asked(); len(asked) != 1 {
		t.Errorf("asked for %q", asked[1:])
	}
	for _, item := range []string{"0", "1", "9", "10", strings.Repeat("9", 18)} {
		before := len(c.asked())
		_ = a.Authorize(t.Context(), id, "job_events", item)
		if asked := c.asked()[before:]; len(asked) != 1 || asked[0] != "/api/v2/jobs/"+item+"/" {
			t.Errorf("asked for %q", asked)
		}
	}
}

// echo answers with the credentials themselves as the user: whoever gets another's answer shows it.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, fmt.Sprintf(`{"results": [{"id": "%x|%x"}]}`, r.Header.Get("Cookie"), r.Header.Get("Authorization")))
}

// A cached answer is only for those whose credentials AWX cannot tell apart.
func TestAnswersAreNotMixedUp(t *testing.T) {
	c := newController(t, echo)
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	for _, lines := range [][]string{
		{"Cookie: awx_sessionid=a"},
		{"Cookie: awx_sessionid=b"},
		{"Cookie: awx_sessionid=A"},
		{"Cookie: sso=a", "Authorization: Bearer 1"},
		{"Cookie: sso=a", "Authorization: Bearer 2"},
		{"Authorization: Bearer 1"},
		{"Authorization: Bearer 2"},
		{"Authorization: bearer 1"},
		{"Cookie: awx_sessionid=a; awx_sessionid=b"},
		{"Cookie: awx_sessionid=b; awx_sessionid=a"},
		{"Cookie: awx_sessionid=b", "Cookie: awx_sessionid=c"},
		{"Cookie: awx_sessionid=x\\y"},
		{"Cookie: awx_sessionid=x\\z"},
		{`Cookie: awx_sessionid="x y"`},
		{`Cookie: awx_sessionid="x\054y"`},
		{`Cookie: awx_sessionid="q"; lang=en`},
		{"Cookie: awx_sessionid=ä; lang=en"},
		{"Cookie: awx_sessionid=ö; lang=en"},
		{"Cookie: awx_sessionid=; sso=1"},
		{"Cookie: awx_sessionid=; sso=2"},
		{`Cookie: awx_sessionid=""; sso=1`},
		{"Cookie: sessionid=1; lang=en"},
		{"Cookie: sessionid=2; lang=en"},
		{"Cookie: sso=x\\1; lang=en"},
		{"Cookie: sso=x\\2; lang=en"},
		{"Cookie: sso=\"1; lang=en"},
		{"Cookie: sso=\"2; lang=en"},
		{"Cookie: bad name=1; lang=en"},
		{"Cookie: bad name=2; lang=en"},
		{"Cookie: AWX_SESSIONID=1"},
		{"Cookie: " + strings.Repeat("a=1; ", 3001) + "sso=1"},
		{"Cookie: " + strings.Repeat("a=1; ", 3001) + "sso=2"},
	} {
		r := handshake(lines...)
		for range 2 {
			id, err := a.Authenticate(r)
			want := fmt.Sprintf("%x|%x", strings.Join(r.Header.Values("Cookie"), "; "), r.Header.Get("Authorization"))
			if err != nil || id.Key != want {
				t.Errorf("%.100q got the answer of another: %.100s, %v", lines, id.Key, err)
			}
		}
	}
}

// The answers of one login are shared whatever its other cookies are, and csrftoken says nothing of who it is.
func TestOtherCookiesDoNotMatter(t *testing.T) {
	c := newController(t, byCookie)
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	for i := range 10 {
		if id, err := a.Authenticate(handshake(fmt.Sprintf("Cookie: x=%d; awx_sessionid=s; csrftoken=%d", i, i))); err != nil || id.Key != "s" {
			t.Fatal(id, err)
		}
	}
	if asked := c.asked(); len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
}

// An object answer of one login is not another's.
func TestObjectAnswersAreNotMixedUp(t *testing.T) {
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v2/me/" && r.Header.Get("Cookie") != "awx_sessionid=boss" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		byCookie(w, r)
	})
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	boss, err := a.Authenticate(handshake("Cookie: awx_sessionid=boss"))
	if err != nil {
		t.Fatal(err)
	}
	guest, err := a.Authenticate(handshake("Cookie: awx_sessionid=guest"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Authorize(t.Context(), boss, "job_events", "1"); err != nil {
			t.Error(err)
		}
		if err := a.Authorize(t.Context(), guest, "job_events", "1"); !errors.Is(err, relay.ErrDenied) {
			t.Error(err)
		}
		// The same number of another kind is another object.
		guest.Key = "boss" // the name changes nothing, the credentials count
		if err := a.Authorize(t.Context(), guest, "workflow_events", "1"); !errors.Is(err, relay.ErrDenied) {
			t.Error(err)
		}
	}
}

func TestRecheck(t *testing.T) {
	c := newController(t, user(`7`))
	const keep = time.Millisecond
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = keep })
	id := login(t, a)
	recheck := func() error { return a.Recheck(context.Background(), id) }
	if err := recheck(); err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"the login has ended":     reply(401, ""),
		"it is somebody else's":   user(`8`),
		"it is a string now":      user(`"7"`),
		"nobody is in the answer": reply(200, `{"results": []}`),
	} {
		c.become(answer)
		eventually(t, name, func() bool { return errors.Is(recheck(), relay.ErrUnauthenticated) })
		c.become(user(`7`))
		eventually(t, "it is as before", func() bool { return recheck() == nil })
	}
	c.become(reply(200, `{"results": [{"id": 7, "username": "alice", "is_superuser": true}]}`))
	eventually(t, "the user has other rights", func() bool { return errors.Is(recheck(), relay.ErrChanged) })
	c.become(reply(500, ""))
	eventually(t, "the API is in trouble", func() bool { return recheck() != nil })
	if err := recheck(); errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("an API in trouble ends the session: %v", err)
	}
	c.Close()
	eventually(t, "the API is down", func() bool { return recheck() != nil })
	if err := recheck(); errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("an API that is down ends the session: %v", err)
	}
	if err := a.Recheck(t.Context(), relay.Identity{ID: "7", Key: "7"}); !errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("let in by another authorizer: %v", err)
	}
}

// A gateway before the API says 200 to everything and shows a page to log in: that is no yes.
func TestPageInPlaceOfAnObject(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	c.become(reply(200, "\ufeff\n <!doctype html><title>Log in</title>"))
	if err := a.Authorize(t.Context(), id, "job_events", "1"); err == nil || errors.Is(err, relay.ErrDenied) || !strings.Contains(err.Error(), "a page in place of the object") {
		t.Errorf("a page is %v", err)
	}
}

// A web server that knows no site for the request may answer 200 with nothing. That is no yes.
func TestNothingInPlaceOfAnObject(t *testing.T) {
	for _, body := range []string{"", "\n", "ok", "[]", "null"} {
		c := newController(t, objects)
		a := c.authorizer(t, nil)
		id := login(t, a)
		c.become(reply(200, body))
		if err := a.Authorize(t.Context(), id, "job_events", "1"); err == nil || errors.Is(err, relay.ErrDenied) ||
			!strings.Contains(err.Error(), "without the object") {
			t.Errorf("200 with %q is %v, want an error of the API", body, err)
		}
	}
}

// AWX answers 500 when a user who is neither superuser nor auditor asks for a management job (seen with e21dd0a093).
func TestSystemJobsOfOrdinaryUsers(t *testing.T) {
	for _, test := range []struct {
		name, flags, kind string
		denied            bool
	}{
		{"ordinary user", `"is_superuser": false`, "system_job_events", true},
		{"superuser: the API is in trouble", `"is_superuser": true`, "system_job_events", false},
		{"auditor: the API is in trouble", `"is_system_auditor": true`, "system_job_events", false},
		{"another kind of job: the API is in trouble", `"is_superuser": false`, "job_events", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newController(t, reply(200, `{"results": [{"id": 7, "username": "alice", `+test.flags+`}]}`))
			a := c.authorizer(t, nil)
			id := login(t, a)
			c.become(reply(500, "<h1>Server Error (500)</h1>"))
			err := a.Authorize(t.Context(), id, test.kind, "1")
			if err == nil || errors.Is(err, relay.ErrDenied) != test.denied {
				t.Errorf("Authorize: %v, want denied: %v", err, test.denied)
			}
			if err := a.RecheckGroup(t.Context(), id, test.kind+"-1"); err == nil ||
				errors.Is(err, relay.ErrDenied) != test.denied {
				t.Errorf("RecheckGroup: %v, want denied: %v", err, test.denied)
			}
		})
	}
}
