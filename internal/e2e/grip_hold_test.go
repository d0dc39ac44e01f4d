package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// holdSite is a Caddyfile of a site that holds responses below /events/. backend is its address for the relay, proxy
// the directive that passes requests to it.
func holdSite(backend, proxy string) string {
	site := strings.Replace(gripSite(backend), "route /ws/ {", "route /events/* {", 1)
	site = strings.Replace(site, "messages backend", "hold", 1)
	return strings.Replace(site, `respond "next"`, proxy, 1)
}

const recordedHold = "testdata/grip/recorded_hold.json"

// holdRequest is the part of a request that decides about the answer of django-eventstream, without the signed
// parameter that has a time.
func holdRequest(r *http.Request) escaped {
	query := r.URL.Query()
	query.Del("es-meta")
	last := slices.Sorted(slices.Values(r.Header.Values("Grip-Last")))
	return escaped(fmt.Sprintf("%s %s?%s|%s|%s", r.Method, r.URL.Path, query.Encode(), strings.Join(last, ", "),
		r.Header.Get("Last-Event-Id")))
}

// holdSite is a proxy to a site that records the exchanges.
func (rec *recorder) holdSite(t *testing.T, to string) string {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r)
		e := gripExchange{
			Request: holdRequest(r), Status: answer.Code, Header: map[string]string{}, Body: escaped(answer.Body.String()),
		}
		for name, values := range answer.Header() {
			if strings.HasPrefix(name, "Grip-") || name == "Content-Type" || name == "X-Site" {
				e.Header[name] = values[0]
			}
		}
		rec.mu.Lock()
		if !strings.HasPrefix(r.URL.Path, "/events/") {
			e.Published, rec.published = rec.published, nil
		}
		rec.exchanges = append(rec.exchanges, e)
		rec.mu.Unlock()
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// startRecordedHold answers each request with the recorded answer.
func startRecordedHold(t *testing.T, relay func() string) string {
	text, err := os.ReadFile(recordedHold)
	if err != nil {
		t.Fatal(err)
	}
	var exchanges []gripExchange
	if err := json.Unmarshal(text, &exchanges); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := holdRequest(r)
		i := slices.IndexFunc(exchanges, func(e gripExchange) bool { return e.Request == want })
		if i < 0 {
			t.Errorf("no recorded answer to %q; record again with EDGERELAY_RECORD=1", string(want))
			w.WriteHeader(http.StatusTeapot)
			return
		}
		for _, publication := range exchanges[i].Published {
			publishRecorded(t, relay(), publication)
		}
		for name, value := range exchanges[i].Header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(exchanges[i].Status)
		_, _ = io.WriteString(w, string(exchanges[i].Body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestEventStreamLibrary has django-eventstream from PyPI, unchanged and under plain WSGI, serve event streams behind
// the relay, with its replays from a database. EDGERELAY_GRIP is as for [TestGripLibraries].
func TestEventStreamLibrary(t *testing.T) {
	t.Parallel()
	packages := os.Getenv("EDGERELAY_GRIP")
	if packages == "" {
		r := &peers.Relay{}
		stand := startRecordedHold(t, func() string { return r.URL })
		*r = *peers.StartRelay(t, holdSite(stand, "reverse_proxy "+stand))
		playHold(t, r, "a", holdSite(stand, "reverse_proxy "+stand))
		return
	}
	rec, r := &recorder{}, &peers.Relay{}
	folder := filepath.Join(peers.Root(t), "internal", "e2e", "testdata", "grip")
	socket, address := testkit.Loopback(testkit.FreePort(t)), testkit.Loopback(testkit.FreePort(t))
	env := append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "PYTHONPATH="+packages,
		"EVENTSTREAM_DB="+filepath.Join(t.TempDir(), "db"), "GRIP_VERIFY_KEY="+gripKey,
		"GRIP_URL="+rec.publications(t, func() string { return r.URL })+"/edgerelay?iss=site&key="+gripKey)
	migrate := exec.Command("/usr/bin/python3", filepath.Join(folder, "eventstream.py")) // the Python of uWSGI
	migrate.Env = env
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(process.Program(t, "uwsgi"), "--plugin", "python3", "--http-socket", address, "--socket", socket,
		"--module", "eventstream:application", "--pythonpath", folder, "--processes", "2", "--master", "--need-app",
		"--die-on-term", "--disable-logging", "--lazy-apps", "--enable-threads")
	cmd.Env = env
	uwsgi := process.Start(t, "uwsgi", cmd)
	uwsgi.Ready(t, func() error {
		resp, err := http.Get("http://" + address + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	t.Run("http", func(t *testing.T) {
		site := rec.holdSite(t, "http://"+address)
		*r = *peers.StartRelay(t, holdSite(site, "reverse_proxy "+site))
		playHold(t, r, "a", holdSite(site, "reverse_proxy "+site))
		if os.Getenv("EDGERELAY_RECORD") == "" {
			return
		}
		text, err := json.MarshalIndent(rec.exchanges, "", "\t")
		if err == nil {
			err = os.WriteFile(recordedHold, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("uwsgi", func(t *testing.T) {
		site := holdSite("uwsgi://"+socket, "reverse_proxy "+socket+" {\n\t\ttransport uwsgi\n\t}")
		*r = *peers.StartRelay(t, site)
		playHold(t, r, "u", site)
	})
}

// heldStream reads an event stream.
type heldStream struct {
	t    *testing.T
	text *bufio.Reader
	end  context.CancelFunc
}

func openHeld(t *testing.T, address string, headers ...string) *heldStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	for name := range resp.Header {
		if strings.HasPrefix(name, "Grip-") {
			t.Errorf("the client gets %s", name)
		}
	}
	return &heldStream{t, bufio.NewReader(resp.Body), cancel}
}

// hears waits for the next events: type, id and data.
func (s *heldStream) hears(want ...string) {
	s.t.Helper()
	for _, w := range want {
		got := ""
		for got == "" || strings.HasPrefix(got, "keep-alive") {
			got = s.next()
		}
		if got != w {
			s.t.Fatalf("event %q, want %q", got, w)
		}
	}
}

// next returns an event, empty for a comment.
func (s *heldStream) next() string {
	s.t.Helper()
	var parts []string
	for {
		line, err := s.text.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%v after %q", err, parts)
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return strings.Join(parts, " ")
		}
		if name, value, _ := strings.Cut(line, ":"); name != "" && strings.TrimSpace(value) != "" {
			parts = append(parts, strings.TrimSpace(value))
		}
	}
}

// playHold is what clients of the site in testdata/grip/eventstream.py do and see. room is the name of a channel.
func playHold(t *testing.T, r *peers.Relay, room, site string) {
	do := func(path, want string) {
		t.Helper()
		if got := fetch(t, r.URL+path); got != want {
			t.Fatalf("%s: %q, want %q", path, got, want)
		}
	}
	say := func(text string, more string) { do("/send/?channel="+room+"&data="+text+more, "sent") }
	event := func(id int, text string) string { return fmt.Sprintf(`message %s:%d {"text": "%s"}`, room, id, text) }
	held := func(n, followed int) {
		t.Helper()
		testkit.Eventually(t, "the responses are held", func() bool {
			all := fetch(t, r.Admin+"/metrics")
			return strings.Contains(all, fmt.Sprintf("backend_held{route=\"/events/*\"} %d\n", n)) &&
				strings.Contains(all, fmt.Sprintf("backend_followed_total{route=\"/events/*\"} %d\n", followed))
		})
	}
	a := openHeld(t, r.URL+"/events/room/"+room+"/")
	a.hears("stream-open")
	held(1, 1)
	say("one", "")
	a.hears(event(1, "one"))
	both := openHeld(t, r.URL+"/events/?channel="+room+"&channel="+room+"2")
	both.hears("stream-open")
	held(2, 2)
	if err := r.Load(strings.Replace(site, "{$SITE} {", "{$SITE} {\n\theader X-Again yes", 1)); err != nil {
		t.Fatal(err)
	}
	say("two", "&skip=anonymous")
	say("three", "")
	a.hears(event(3, "three"))
	// The library keeps the channels of a request in a set.
	orders := []string{
		fmt.Sprintf(`message %s2:0,%s:3 {"text": "three"}`, room, room), fmt.Sprintf(`message %s:3,%s2:0 {"text": "three"}`, room, room),
	}
	if got := both.next(); !slices.Contains(orders, got) {
		t.Fatalf("event %q, want one of %q", got, orders)
	}
	do("/lose/?channel="+room+"&data=four", "lost")
	say("five", "")
	a.hears(event(4, "four"), event(5, "five"))
	again := openHeld(t, r.URL+"/events/room/"+room+"/", "Last-Event-ID", room+":3")
	again.hears("stream-open", event(4, "four"), event(5, "five"))
	refused := openHeld(t, r.URL+"/events/?channel=secret")
	refused.hears(`stream-error error {"condition": "forbidden", "text": "Permission denied to channels: secret", "channels": ["secret"]}`)
	if _, err := refused.text.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("%v after the refusal, want the end", err)
	}
	for _, s := range []*heldStream{a, both, again} {
		s.end()
	}
	testkit.Eventually(t, "the streams end", func() bool {
		return strings.Contains(fetch(t, r.Admin+"/metrics"), "backend_held{route=\"/events/*\"} 0\n")
	})
	playPlainHold(t, r, do)
}

// playPlainHold is the same for a stream and a long poll of django-grip alone.
func playPlainHold(t *testing.T, r *peers.Relay, do func(path, want string)) {
	lines := openHeld(t, r.URL+"/events/lines/")
	if got, err := lines.text.ReadString('\n'); got != "[begin]\n" {
		t.Fatalf("%q, %v; want [begin]", got, err)
	}
	poll := make(chan string, 1)
	go func() {
		resp, err := http.Get(r.URL + "/events/poll/")
		if err != nil {
			poll <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		poll <- fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Site"), " ", string(text), err)
	}()
	testkit.Eventually(t, "the poll waits", func() bool {
		return strings.Contains(fetch(t, r.Admin+"/edgerelay/groups"), "grip.poll")
	})
	do("/say/?data=spoken", "said")
	if got, err := lines.text.ReadString('\n'); got != "spoken\n" {
		t.Fatalf("%q, %v; want spoken", got, err)
	}
	select {
	case got := <-poll:
		if got != "200 poll spoken\n<nil>" {
			t.Errorf("poll: %q", got)
		}
	case <-time.After(patience):
		t.Error("the poll is not answered")
	}
	do("/hang_up/", "hung up")
	if got, err := lines.text.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v; want the end", got, err)
	}
}
