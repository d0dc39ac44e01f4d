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

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// resources are the kinds of group that belong to an object; AWX itself checks some of them.
var resources = []struct {
	kind, resource string
	checkedByAWX   bool
}{
	{"job_events", "jobs", true},
	{"workflow_events", "workflow_jobs", true},
	{"ad_hoc_command_events", "ad_hoc_commands", true},
	{"project_update_events", "project_updates", false},
	{"inventory_update_events", "inventory_updates", false},
	{"system_job_events", "system_jobs", false},
}

// objects lets the user see object 1 and hides 2, 3 and 4. Requests for 5 and 6 fail.
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
			before := len(c.requested())
			for item := 1; item <= 6; item++ {
				err := a.Authorize(t.Context(), id, fmt.Sprint(k.kind, "-", item))
				switch {
				case item == 1 || !strict && !k.checkedByAWX:
					if err != nil {
						t.Errorf("strict %v: %s-%d: %v, want access", strict, k.kind, item, err)
					}
				case item < 5:
					if !errors.Is(err, relay.ErrDenied) {
						t.Errorf("strict %v: %s-%d: %v, want it denied", strict, k.kind, item, err)
					}
				case item == 5 && k.resource == "system_jobs":
					// covered by TestSystemJobsOfOrdinaryUsers
				default:
					if err == nil || errors.Is(err, relay.ErrDenied) {
						t.Errorf("strict %v: %s-%d: %v, want an error of the API", strict, k.kind, item, err)
					}
				}
			}
			paths := c.requested()[before:]
			if !strict && !k.checkedByAWX {
				if len(paths) > 0 {
					t.Errorf("strict false: requested %q", paths)
				}
				continue
			}
			for i, path := range paths {
				if want := fmt.Sprintf("/api/v2/%s/%d/", k.resource, i+1); path != want {
					t.Errorf("requested %s, want %s", path, want)
				}
			}
			if len(paths) != 6 {
				t.Errorf("strict %v: %s: requested %q, want 6 requests", strict, k.kind, paths)
			}
		}
	}
}

func TestPublicGroups(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	for _, g := range [][2]string{
		{"jobs", "status_changed"},
		{"jobs", "summary"},
		{"schedules", "changed"},
		{"inventories", "status_changed"},
		{"control", "limit_reached_7"},
	} {
		if err := a.Authorize(t.Context(), id, g[0]+"-"+g[1]); err != nil {
			t.Errorf("%s-%s: %v", g[0], g[1], err)
		}
	}
	if paths := c.requested(); len(paths) != 1 {
		t.Errorf("requested %q, want me/ only", paths)
	}
}

func TestControlGroupIsForItsOwnUser(t *testing.T) {
	c := newController(t, objects)
	id := login(t, c.authorizer(t, nil))
	for _, item := range []string{
		"limit_reached_8", "limit_reached_", "limit_reached_70", "limit_reached_07", "limit_reached_7 ", "", "x",
		"limit_reached_7-7",
	} {
		if err := c.authorizer(t, nil).Authorize(t.Context(), id, "control-"+item); !errors.Is(err, relay.ErrDenied) {
			t.Errorf("strict true: control-%s: %v", item, err)
		}
		lax := c.authorizer(t, func(s *awx.Settings) { s.Strict = false })
		if err := lax.Authorize(t.Context(), id, "control-"+item); err != nil {
			t.Errorf("strict false: control-%s: %v", item, err)
		}
	}
}

// An item that is no database id never becomes the path of a request.
func TestInvalidIDsAreDenied(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	for _, item := range []string{
		"", "42/../43", "42%2f..", "42/", "/42", "../me", "%34%32", "42?x=1", "42#", "42;x", "٤٢", "４２", "1e2", "1E2",
		"042", "00", "+42", "-42", "-0", " 42", "42 ", "42\n", "42\x00", "\x0042", "4\n2", "0x2a", "1.0", "1_000",
		"abc", "4a2", "42,43", "42\r\nX: y", strings.Repeat("9", 30), strings.Repeat("9", 19),
		strings.Repeat("1", 1<<16), "\xff",
	} {
		for _, k := range resources {
			if err := a.Authorize(t.Context(), id, k.kind+"-"+item); !errors.Is(err, relay.ErrDenied) {
				t.Errorf("%s-%q: %v, want it denied", k.kind, item, err)
			}
		}
	}
	if paths := c.requested(); len(paths) != 1 {
		t.Errorf("requested %q, want me/ only", paths)
	}
	for _, item := range []string{"0", "1", "9", "10", strings.Repeat("9", 18)} {
		before := len(c.requested())
		_ = a.Authorize(t.Context(), id, "job_events-"+item)
		if paths := c.requested()[before:]; len(paths) != 1 || paths[0] != "/api/v2/jobs/"+item+"/" {
			t.Errorf("requested %q, want /api/v2/jobs/%s/", paths, item)
		}
	}
}

// echo returns the credentials as the user, so that a response to other credentials shows.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, `{"results": [{"id": "%x|%x"}]}`, r.Header.Get("Cookie"), r.Header.Get("Authorization"))
}

// A cached response serves only credentials that AWX cannot tell apart.
func TestUserLookupsAreNotMixedUp(t *testing.T) {
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
				t.Errorf("%.100q got the response to other credentials: %.100s, %v", lines, id.Key, err)
			}
		}
	}
}

// Handshakes with the same session share responses, whatever their other cookies are.
func TestOtherCookiesDoNotMatter(t *testing.T) {
	c := newController(t, byCookie)
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	for i := range 10 {
		id, err := a.Authenticate(handshake(fmt.Sprintf("Cookie: x=%d; awx_sessionid=s; csrftoken=%d", i, i)))
		if err != nil || id.Key != "s" {
			t.Fatal(id, err)
		}
	}
	if paths := c.requested(); len(paths) != 1 {
		t.Errorf("requested %q, want one request", paths)
	}
}

// A response about an object serves one login only.
func TestObjectLookupsAreNotMixedUp(t *testing.T) {
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
		if err := a.Authorize(t.Context(), boss, "job_events-1"); err != nil {
			t.Error(err)
		}
		if err := a.Authorize(t.Context(), guest, "job_events-1"); !errors.Is(err, relay.ErrDenied) {
			t.Error(err)
		}
		// Another kind of object, and a user key that must not matter: the credentials count.
		guest.Key = "boss"
		if err := a.Authorize(t.Context(), guest, "workflow_events-1"); !errors.Is(err, relay.ErrDenied) {
			t.Error(err)
		}
	}
}

func TestRecheck(t *testing.T) {
	c := newController(t, user(`7`))
	const ttl = time.Millisecond
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = ttl })
	id := login(t, a)
	recheck := func() error { return a.Recheck(context.Background(), id) }
	if err := recheck(); err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"401":                reply(401, ""),
		"another user":       user(`8`),
		"a string as the id": user(`"7"`),
		"no user":            reply(200, `{"results": []}`),
	} {
		c.setHandler(answer)
		testkit.Eventually(t, name, func() bool { return errors.Is(recheck(), relay.ErrUnauthenticated) })
		c.setHandler(user(`7`))
		testkit.Eventually(t, "the original response is back", func() bool { return recheck() == nil })
	}
	c.setHandler(reply(200, `{"results": [{"id": 7, "username": "alice", "is_superuser": true}]}`))
	testkit.Eventually(t, "other permissions are noticed", func() bool { return errors.Is(recheck(), relay.ErrChanged) })
	c.setHandler(reply(500, ""))
	testkit.Eventually(t, "a failing API is noticed", func() bool { return recheck() != nil })
	if err := recheck(); errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("failing API: %v, want an error other than ErrUnauthenticated", err)
	}
	c.Close()
	testkit.Eventually(t, "an unreachable API is noticed", func() bool { return recheck() != nil })
	if err := recheck(); errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("unreachable API: %v, want an error other than ErrUnauthenticated", err)
	}
	if err := a.Recheck(t.Context(), relay.Identity{ID: "7", Key: "7"}); !errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("identity of another authorizer: %v, want ErrUnauthenticated", err)
	}
}

// The login page of a gateway, sent with status 200, is not a yes.
func TestPageInPlaceOfObject(t *testing.T) {
	c := newController(t, objects)
	a := c.authorizer(t, nil)
	id := login(t, a)
	c.setHandler(reply(200, "\ufeff\n <!doctype html><title>Log in</title>"))
	err := a.Authorize(t.Context(), id, "job_events-1")
	if err == nil || errors.Is(err, relay.ErrDenied) || !strings.Contains(err.Error(), "a page in place of the object") {
		t.Errorf("a page gives %v, want an error of the API", err)
	}
}

// A response with status 200 but without an object is not a yes.
func TestEmptyResponseInPlaceOfObject(t *testing.T) {
	for _, body := range []string{"", "\n", "ok", "[]", "null"} {
		c := newController(t, objects)
		a := c.authorizer(t, nil)
		id := login(t, a)
		c.setHandler(reply(200, body))
		if err := a.Authorize(t.Context(), id, "job_events-1"); err == nil || errors.Is(err, relay.ErrDenied) ||
			!strings.Contains(err.Error(), "without the object") {
			t.Errorf("200 with %q gives %v, want an error of the API", body, err)
		}
	}
}

// AWX responds 500 if an ordinary user requests a management job (seen with e21dd0a093).
func TestSystemJobsOfOrdinaryUsers(t *testing.T) {
	for _, test := range []struct {
		name, flags, kind string
		denied            bool
	}{
		{"ordinary user", `"is_superuser": false`, "system_job_events", true},
		{"superuser: the API fails", `"is_superuser": true`, "system_job_events", false},
		{"auditor: the API fails", `"is_system_auditor": true`, "system_job_events", false},
		{"another kind of job: the API fails", `"is_superuser": false`, "job_events", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newController(t, reply(200, `{"results": [{"id": 7, "username": "alice", `+test.flags+`}]}`))
			a := c.authorizer(t, nil)
			id := login(t, a)
			c.setHandler(reply(500, "<h1>Server Error (500)</h1>"))
			err := a.Authorize(t.Context(), id, test.kind+"-1")
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
