package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// escapes are items that look like the id 43, which alice may not see, or like 42, which she may, or lead elsewhere in
// the API.
var escapes = []string{
	`"42/../43"`, `"43/../42"`, `"../jobs/43"`, `"..%2f43"`, `"42%2f..%2f43"`, `"42?x"`, `"42#"`, `"42;43"`, `"42,43"`,
	`"42&id=43"`, `"42\u0000"`, `"42\n"`, `"42\r\nX: y"`, `"\n43"`, `" 43"`, `"43 "`,
	`"\t43"`, `"\u00a043"`, `"\ufeff43"`, `"+43"`, `"-43"`, `"043"`, `"0043"`, `"43.0"`, `"43."`, `"4_3"`, `"0x2b"`,
	`"0b101011"`, `"0o53"`, `"4.3e1"`, `"43e0"`, `"٤٣"`, `"４３"`, `"4３"`, `"४३"`, `"𝟒𝟑"`, `"4\u200b3"`, `"4\u00ad3"`,
	`"43\u0301"`, `"null"`, `"None"`, `"NaN"`, `"*"`, `"%"`, `"42 OR 1=1"`, `"{43}"`, `"[43]"`, `""`, `"."`, `".."`,
	`"/"`, `"\\"`, `"` + strings.Repeat("4", 100) + `"`, `"` + strings.Repeat("43/", 1000) + `"`,
	`43.0`, `4.3e1`, `430e-1`, `-43`, `-0`, `1E400`, strings.Repeat("9", 400), `9223372036854775851`,
	`18446744073709551659`, `true`, `false`, `null`, `{}`, `[]`, `[43]`, `[[43]]`, `{"id": 43}`, `{"toString": 43}`,
	`["42", "43"]`,
	strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
	strings.Repeat(`{"a":`, 5000) + "43" + strings.Repeat("}", 5000),
}

// detours are whole groups objects.
var detours = []string{
	`{"job_events": [42], "job_events": [43]}`, `{"job_events": [43], "job_events": [42]}`, `{"job\u005fevents": [43]}`,
	`{"job_events ": [43]}`, `{" job_events": [43]}`, `{"job_events\u0000": [43]}`, `{"JOB_EVENTS": [43]}`,
	`{"Job_Events": [43]}`,
	`{"job_eventѕ": [43]}`, `{"job_events-43": []}`, `{"job_events-43": [""]}`, `{"job_events": {"43": true}}`,
	`{"job_events": {"length": 1, "0": 43}}`, `{"job_events": "43"}`, `{"job_events": 43}`, `{"job_events": null}`,
	`{"job_events": true}`,
	`{"": ["job_events-43"]}`, `{"": [43]}`, `{"job": ["events-43"]}`, `{"job_events-": ["43"]}`, `{"jobs-x": [1]}`,
	`{"__proto__": {"job_events": [43]}}`, `{"__proto__": [43]}`, `{"constructor": {"prototype": [43]}}`,
	`{"control": ["limit_reached_3"]}`, `{"control": ["limit_reached_02"]}`, `{"control-limit": ["reached_3"]}`,
	`{"control": ["limit_reached_2 "]}`, `{"broadcast": ["group_send"]}`, `{"broadcast-group_send": []}`,
	`{"broadcast-group_send": [""]}`, `{"metrics": []}`,
	`[]`, `[["job_events", 43]]`, `"job_events-43"`, `43`, `null`, `true`, `{}`, `{"job_events": [43]`,
	`{"job_events": [43],}`, `{'job_events': [43]}`, `{job_events: [43]}`, `{"job_events": [43], /* */ "x": []}`,
	`{"job_events": [NaN]}`, `{"job_events": [Infinity]}`,
	`{"job_events": [43, 43, 43]}`, `{"job_events": [42, [43]]}`, `{"` + strings.Repeat("k", 30000) + `": [1]}`,
	`{"job_events": [` + strings.Repeat("43,", 9000) + `43]}`,
}

// Whatever is asked for, what the user may not see is never joined, the API is asked for ids and nothing else, and the
// connection lives.
func TestGroupsThatLeaveTheirPattern(t *testing.T) {
	f := newFortress(t, "limits {\n\t\t\tsubscribe_rate 0\n\t\t}")
	f.bystander(t)
	w := f.enter(t, "alice")
	f.api.questions()
	questions := regexp.MustCompile(`^/api/v2/(me|(jobs|workflow_jobs|ad_hoc_commands|project_updates|inventory_updates|system_jobs)/(0|[1-9][0-9]{0,17}))/$`)
	attack := func(message string) {
		t.Helper()
		say(t, w, message)
		for _, group := range []string{"job_events-43", "control-limit_reached_3", "broadcast-group_send"} {
			publishHTTP(t, f.Relay, group, `"secret"`)
		}
		say(t, w, `{"groups": {"probe": ["done"]}, "xrftoken": "t"}`)
		for {
			text := nextText(t, w)
			switch {
			case text == `"secret"`:
				t.Errorf("%.100s let a secret out", message)
			case strings.Contains(text, `"groups_current": ["probe-done"]`):
				for _, r := range f.api.questions() {
					if !questions.MatchString(r.RequestURI) || r.Method != http.MethodGet {
						t.Errorf("%.100s led to the question %s %s", message, r.Method, r.RequestURI)
					}
				}
				return
			case strings.Contains(text, `"groups_current"`) &&
				(strings.Contains(text, `"job_events-43"`) || strings.Contains(text, `"broadcast-group_send"`) ||
					strings.Contains(text, `"control-limit_reached_3"`)):
				t.Errorf("%.100s was answered with %.200s", message, text)
			}
		}
	}
	for _, item := range escapes {
		for _, kind := range []string{"job_events", "workflow_events", "jobs", "control"} {
			attack(`{"groups": {"` + kind + `": [` + item + `]}, "xrftoken": "t"}`)
		}
		attack(`{"groups": {"job_events": [42, ` + item + `, 43]}, "xrftoken": "t"}`)
	}
	for _, groups := range detours {
		attack(`{"groups": ` + groups + `, "xrftoken": "t"}`)
	}
	for _, message := range []string{
		`{"groups": {"job_events": [42]}, "groups": {"job_events": [43]}, "xrftoken": "t"}`,
		`{"groups": {"job_events": [43]}}`, `{"groups": {"job_events": [44]}, "xrftoken": ["t"]}`,
		`{"groups": {"jobs": [1]}, "xrftoken": "x"}`, `{"groups": {"jobs": [1]}, "xrftoken": "t", "xrftoken": "x"}`,
		`{"Groups": {"job_events": [43]}, "XRFTOKEN": "t"}`, "", "{}", "[]", "\x00",
		"{\"groups\": {}, \"xrftoken\": \"t\"}{\"groups\": {\"job_events\": [43]}, \"xrftoken\": \"t\"}",
		strings.Repeat("[", 60_000), strings.Repeat(`{"groups":`, 6000),
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		`{"groups": {"job_events": [43]}, "xrftoken": "t", "type": "internal.message", "text": "x"}`,
	} {
		attack(message)
	}
}

// Logins do not mix: whatever cookies come together, each handshake is who the API says, at the same time as hundreds
// of others.
func TestCookiesOfOthers(t *testing.T) {
	f := newFortress(t, "limits {\n\t\t\tconnections_per_user 0\n\t\t}")
	f.bystander(t)
	var cookies []string
	for _, c := range []string{
		"awx_sessionid=alice", "awx_sessionid=bob", "awx_sessionid=alice; awx_sessionid=bob",
		"awx_sessionid=bob; awx_sessionid=alice", "awx_sessionid=alice; awx_sessionid=nobody",
		"awx_sessionid=nobody; awx_sessionid=alice", "awx_sessionid2=bob; awx_sessionid=alice",
		"awx_sessionid=alice; awx_sessionid2=bob", "xawx_sessionid=bob; awx_sessionid=alice",
		"AWX_SESSIONID=bob; awx_sessionid=alice",
		`awx_sessionid="bob"`, `awx_sessionid=bob; awx_sessionid="alice"`, "awx_sessionid = alice",
		"awx_sessionid=alice ; x=awx_sessionid=bob", "awx_sessionid=; awx_sessionid=bob",
		"awx_sessionid=bob; awx_sessionid=",
		"x=1; awx_sessionid=alice", "x=2; awx_sessionid=bob", "awx_sessionid", "x=1",
		"awx_sessionid=bob;awx_sessionid=alice;awx_sessionid=carol", "awx_sessionid=bo; awx_sessionid=b=alice",
		"=alice; awx_sessionid=bob",
		"awx_sessionid=alice; =awx_sessionid=bob", "awx_sessionid=alice\x00", "awx_sessionid=alice,awx_sessionid=bob",
		"awx_sessionid=alice\r\nCookie: awx_sessionid=bob", "awx_sessionid=bob\r\nCookie: awx_sessionid=alice",
	} {
		for range 8 {
			cookies = append(cookies, c)
		}
	}
	rand.Shuffle(len(cookies), func(i, j int) { cookies[i], cookies[j] = cookies[j], cookies[i] })
	var all sync.WaitGroup
	for _, c := range cookies {
		all.Go(func() {
			want := "401"
			if id := logins[djangoSession(strings.ReplaceAll(c, "\r\nCookie:", ";"))]; id != 0 {
				want = fmt.Sprintf(`{"accept": true, "user": %d}`, id)
			}
			w, err := wstest.DialWire(t, f.URL)
			if err != nil {
				t.Error(err)
				return
			}
			if err := w.Write(w.Handshake("/websocket/", "Cookie: csrftoken=t; "+c)); err != nil {
				t.Error(err)
				return
			}
			resp, _, err := w.Response()
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case resp.StatusCode == http.StatusSwitchingProtocols:
				f, err := w.Frame()
				if got = string(f.Payload); err != nil {
					got = err.Error()
				}
				if got == `{"close": true}` {
					got = "401"
				}
			case resp.StatusCode == http.StatusBadRequest: // by Go's HTTP server
				got = "401"
			default:
				got = resp.Status
			}
			if got != want {
				t.Errorf("%q is %q, want %q", c, got, want)
			}
		})
	}
	all.Wait()
}

// What the API is sent is the client's credentials and address and nothing that a client can add; what it answers can
// be anything.
func TestWhatReachesTheAPI(t *testing.T) {
	t.Parallel()
	f := newFortress(t, "")
	f.bystander(t)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter,
		r *http.Request,
	) {
		t.Errorf("the thief was sent %v", r.Header)
	}))
	defer thief.Close()
	base := strings.TrimPrefix(f.api.URL, "http://")
	for _, line := range []string{
		"Host: evil.example", "X-Injected: 1", "Connection: Upgrade, Cookie, X-Injected", "Transfer-Encoding: identity",
		"TE: trailers", "Proxy-Authorization: Basic eDp5", "Content-Type: text/evil", "Accept: text/html",
		"Authorization: Bearer token", "Authorization: Bearer a\r\nAuthorization: Bearer b",
		"Cookie: awx_sessionid=alice\r\nCookie: other=1", "Cookie: awx_sessionid=alice\rX-Injected: 1",
		"Cookie: awx_sessionid=alice\nX-Injected: 1", "Cookie: awx_sessionid=alice\x0bX-Injected: 1",
		"Cookie: awx_sessionid=alice\r\n X-Injected: 1", "Referer: http://evil.example/", "X-Forwarded-For: 10.0.0.1",
		"Cookie: awx_sessionid=alice; x=" + strings.Repeat("x", 15_000),
		"Cookie: awx_sessionid=alice; x=" + strings.Repeat("x", 20_000),
		"Cookie: awx_sessionid=alice; x=é\xff", "Cookie: awx_sessionid=alice; x=%0d%0aX-Injected: 1",
	} {
		w := f.wire(t)
		headers := []string{line}
		if !strings.HasPrefix(line, "Cookie") {
			headers = append(headers, "Cookie: awx_sessionid=alice")
		}
		if err := w.Write(w.Handshake("/websocket/", headers...)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Response(); err != nil {
			t.Fatalf("%.60q: %v", line, err)
		}
		for _, r := range f.api.questions() {
			if r.RequestURI != "/api/v2/me/" || r.Method != http.MethodGet || r.Host != base || r.ContentLength != 0 ||
				len(r.TransferEncoding) > 0 {
				t.Errorf("%.60q: %s %s of %s", line, r.Method, r.RequestURI, r.Host)
			}
			for name := range r.Header {
				if !slices.Contains([]string{
					"Accept", "Accept-Encoding", "Authorization", "Cookie", "User-Agent",
					"X-Forwarded-For", "X-Ws-Session-Quiet",
				}, name) {
					t.Errorf("%.60q: the API is sent %s: %s", line, name, r.Header[name])
				}
			}
			if from := r.Header["X-Forwarded-For"]; !slices.Equal(from, []string{"127.0.0.1"}) { // whatever the client says
				t.Errorf("%.60q: the API is told that the client is at %q", line, from)
			}
			if strings.ContainsAny(r.Header.Get("Cookie"), "\r\n") || len(r.Header.Get("Cookie")) > 16<<10 {
				t.Errorf("%.60q: the API is sent %d bytes of cookies", line, len(r.Header.Get("Cookie")))
			}
		}
	}

	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	answers := map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+"/api/v2/me/", http.StatusTemporaryRedirect)
		},
		"html": body("<!DOCTYPE html><title>Log in</title>"), "array": body(`[{"id": 2}]`), "string": body(`"admin"`),
		"nothing":   body(""),
		"wrongtype": body(`{"results": {"id": 2}}`), "deep": body(strings.Repeat(`{"results":[`, 100_000)),
		"noid": body(`{"results": [{"username": "admin"}]}`),
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 300 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("h", 10_000))
			}
			_, _ = io.WriteString(w, `{"results": [{"id": 2}]}`)
		},
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `{"results": [{"id": 2, "username": "`)
			for junk := strings.Repeat("x", 64<<10); err == nil; {
				_, err = io.WriteString(w, junk)
			}
		},
		"slow":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not HTTP": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "+OK\r\n$536870912\r\n")
				conn.Close()
			}
		},
	}
	f.api.mu.Lock()
	f.api.odd = answers
	f.api.mu.Unlock()
	before := f.heap(t)
	var all sync.WaitGroup
	for name := range answers {
		for i := range 10 {
			all.Go(func() {
				w, err := wstest.DialWire(t, f.URL)
				if err != nil {
					t.Error(err)
					return
				}
				began := time.Now()
				_ = w.Write(w.Handshake("/websocket/",
					fmt.Sprintf("Cookie: awx_sessionid=%s\r\nAuthorization: Bearer %d", name, i)))
				resp, text, err := w.Response()
				if err != nil || resp.StatusCode != http.StatusServiceUnavailable ||
					resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %v %q, %v", name, resp, text, err)
				}
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("%s: answered after %v", name, took)
				}
			})
		}
	}
	all.Wait()
	if now := f.heap(t); now > before+32<<20 {
		t.Errorf("%d bytes on the heap, before %d", now, before)
	}
}

// Pages of other sites do not get in, however much their name looks like ours.
func TestCrossSitePages(t *testing.T) {
	f := newFortress(t, "origins https://ui.example.com https://*.wide.example https://xn--bcher-kva.example")
	f.bystander(t)
	site := f.URL // http://127.0.0.1:port
	for origin, status := range map[string]int{
		site: 101, "https" + site[4:]: 101, "https://ui.example.com": 101, "https://ui.example.com:443": 101,
		"HTTPS://UI.example.com": 101, "https://a.wide.example": 101, "https://a.b.wide.example": 101,
		"https://xn--bcher-kva.example": 101,
		"null":                          403, "": 403, " ": 403, "http://ui.example.com": 403, "https://ui.example.com:8443": 403,
		"https://ui.example.com.": 403, "https://ui.example.com.evil.example": 403, "https://evil-ui.example.com": 403,
		"https://ui.example.com@evil.example": 403,
		"https://evil.example#ui.example.com": 403, "https://evil.example/ui.example.com": 403,
		"https://evil.example?https://ui.example.com": 403, "https://evil.example\\.ui.example.com": 403,
		"https://ui.example.com%00.evil.example": 403,
		"https://wide.example":                   403, "https://.wide.example": 403, "https://evilwide.example": 403,
		"http://a.wide.example": 403, "https://a.wide.example:444": 403, "https://a.wide.example.evil.example": 403,
		"https://bücher.example": 403, "https://xn--bcher-kva.example.": 403,
		"https://ui.еxample.com": 403, "https://u\u0131.example.com": 403, site + ".evil.example": 403, site + "0": 403,
		strings.TrimSuffix(site, site[len(site)-1:]): 403, "http://127.1:80": 403,
		"http://[::ffff:127.0.0.1]" + site[len("http://127.0.0.1"):]: 403, "http://localhost": 403,
		"file://": 403, "chrome-extension://ui.example.com": 403, "ui.example.com": 403, "//ui.example.com": 403,
		"https:ui.example.com": 403, "https://": 403, "*": 403, "https://ui.example.com, https://evil.example": 403,
		"https://evil.example https://ui.example.com":            403,
		"https://ui.example.com\r\nOrigin: https://evil.example": 403,
		"https://evil.example\r\nOrigin: https://ui.example.com": 403, "javascript://ui.example.com/%0aalert(1)": 403,
		"https://ui.example.com\r\nSec-WebSocket-Origin: https://evil.example":                       101,
		"https://evil.example\r\nReferer: https://ui.example.com/\r\nX-Forwarded-Host: evil.example": 403,
	} {
		w := f.wire(t)
		request := w.Handshake("/websocket/", "Cookie: awx_sessionid=alice; csrftoken=t")
		if err := w.Write(strings.TrimSuffix(request, "\r\n") + "Origin: " + origin + "\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, body, err := w.Response()
		if err != nil || resp.StatusCode != status && (status == 101 || resp.StatusCode != http.StatusBadRequest) {
			t.Errorf("Origin %q: %v %q, %v; want %d", origin, resp, body, err, status)
		}
	}
}
