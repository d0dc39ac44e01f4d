package e2e

import (
	"bytes"
	"context"
	"encoding/json"
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
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// gripKey is the key with which the relay signs requests, and the site publications.
const gripKey = "k3y-of-32-bytes-for-HMAC-SHA-256"

// gripSite is a Caddyfile of a route whose backend is a site, at an address or behind uWSGI's socket, and of the
// endpoint at which the site publishes.
func gripSite(address string, more ...string) string {
	return `{
	admin {$ADMIN}
	edgerelay {
		channel_layer memory
		auth none
	}
}
{$SITE} {
	edgerelay_publish {
		key site ` + gripKey + ` {
			groups grip.*
		}
	}
	edgerelay {
		route /ws/ {
			messages backend ` + address + ` {
				grip {
					key ` + gripKey + `
				}
				` + strings.Join(more, "\n\t\t\t\t") + `
			}
		}
	}
	respond "next"
}
`
}

// gripExchange is a request of the relay to django-grip, and the answer, as they were recorded.
type gripExchange struct {
	Request escaped           `json:"request"`
	Status  int               `json:"status"`
	Header  map[string]string `json:"header"`
	Body    escaped           `json:"body"`
	// Published are the bodies of the publications that the site sent meanwhile.
	Published []string `json:"published,omitempty"`
}

// escaped is a sequence of bytes that JSON shows with the escapes of Go.
type escaped string

func (e escaped) MarshalText() ([]byte, error) {
	quoted := strconv.QuoteToASCII(string(e))
	return []byte(quoted[1 : len(quoted)-1]), nil
}

func (e *escaped) UnmarshalText(text []byte) error {
	s, err := strconv.Unquote(`"` + string(text) + `"`)
	*e = escaped(s)
	return err
}

const recordedGrip = "testdata/grip/recorded.json"

// recorder is a proxy between the relay and a site that records the exchanges.
type recorder struct {
	mu        sync.Mutex
	exchanges []gripExchange
	published []string
}

// recordedHeaders are the headers of answers that have a meaning.
var recordedHeaders = []string{"Content-Type", "Sec-WebSocket-Extensions", "Set-Meta-User"}

// publishes reports whether the site publishes during a request.
func publishes(body []byte) bool {
	return bytes.HasSuffix(body, []byte("publish\r\n")) || bytes.HasSuffix(body, []byte("end\r\n"))
}

// site is a proxy to the site.
func (rec *recorder) site(t *testing.T, to string) string {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r)
		e := gripExchange{Request: escaped(r.URL.RawQuery + "|" + string(body)), Status: answer.Code, Body: escaped(answer.Body.String())}
		e.Header = map[string]string{}
		for _, name := range recordedHeaders {
			if values := answer.Header()[http.CanonicalHeaderKey(name)]; values != nil {
				e.Header[name] = values[0]
			}
		}
		rec.mu.Lock()
		if publishes(body) { // requests of other clients may end meanwhile
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

// publications is a proxy to the endpoint at which the site publishes, whose address is known later.
func (rec *recorder) publications(t *testing.T, to func() string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.published = append(rec.published, string(body))
		rec.mu.Unlock()
		out, _ := http.NewRequest(r.Method, to()+r.URL.Path, bytes.NewReader(body))
		out.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestGripLibraries has django-grip, gripcontrol and pubcontrol from PyPI, unchanged and under plain WSGI, answer
// WebSockets behind the relay. EDGERELAY_GRIP is a folder with the packages, as scripts/compat-grip.sh makes it;
// without it, a stand-in answers with the bytes of the libraries that were recorded with EDGERELAY_RECORD=1.
func TestGripLibraries(t *testing.T) {
	t.Parallel()
	packages := os.Getenv("EDGERELAY_GRIP")
	if packages == "" {
		r := &peers.Relay{}
		stand := startRecordedSite(t, func() string { return r.URL })
		*r = *peers.StartRelay(t, gripSite(stand))
		playGrip(t, r)
		return
	}
	rec, r := &recorder{}, &peers.Relay{}
	publications := rec.publications(t, func() string { return r.URL })
	socket, address := testkit.Loopback(testkit.FreePort(t)), testkit.Loopback(testkit.FreePort(t))
	cmd := exec.Command(process.Program(t, "uwsgi"), "--plugin", "python3", "--http-socket", address, "--socket", socket,
		"--wsgi-file", filepath.Join(peers.Root(t), "internal", "e2e", "testdata", "grip", "library.py"),
		"--pythonpath", packages, "--processes", "2", "--master", "--need-app", "--die-on-term", "--disable-logging",
		"--lazy-apps", "--enable-threads")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "GRIP_VERIFY_KEY="+gripKey,
		"GRIP_URL="+publications+"/edgerelay?iss=site&key="+gripKey)
	uwsgi := process.Start(t, "uwsgi", cmd)
	uwsgi.Ready(t, func() error {
		resp, err := http.Get("http://" + address + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	t.Run("http", func(t *testing.T) {
		*r = *peers.StartRelay(t, gripSite(rec.site(t, "http://"+address)))
		playGrip(t, r)
		if os.Getenv("EDGERELAY_RECORD") == "" {
			return
		}
		text, err := json.MarshalIndent(rec.exchanges, "", "\t")
		if err == nil {
			err = os.WriteFile(recordedGrip, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("uwsgi", func(t *testing.T) {
		*r = *peers.StartRelay(t, gripSite("uwsgi://"+socket))
		playGrip(t, r)
	})
}

// startRecordedSite answers each request with the recorded answer to the same events.
func startRecordedSite(t *testing.T, relay func() string) string {
	text, err := os.ReadFile(recordedGrip)
	if err != nil {
		t.Fatal(err)
	}
	var exchanges []gripExchange
	if err := json.Unmarshal(text, &exchanges); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := escaped(r.URL.RawQuery + "|" + string(body))
		// The answer to "meta" depends on what was said before.
		i := slices.IndexFunc(exchanges, func(e gripExchange) bool {
			return e.Request == want && (!strings.HasSuffix(string(want), "\r\nmeta\r\n") ||
				strings.HasSuffix(string(e.Body), "m:none\r\n") == (r.Header.Get("Meta-User") == ""))
		})
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

// publishRecorded publishes what the library published, with the key itself in place of its token, which has expired.
func publishRecorded(t *testing.T, relay, body string) {
	r, err := http.NewRequest(http.MethodPost, relay+"/edgerelay/publish/", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("Authorization", "Bearer "+gripKey)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Transport.RoundTrip(r)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Errorf("published: %s %s", resp.Status, text)
	}
}

// gripClient is a client that sees the kinds of frames.
type gripClient struct {
	t    *testing.T
	conn *websocket.Conn
}

func dialGrip(t *testing.T, address string) *gripClient {
	t.Helper()
	return dialWith(t, address, nil)
}

func dialWith(t *testing.T, address string, header http.Header) *gripClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(address, "http", "ws", 1),
		&websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &gripClient{t, conn}
}

func (c *gripClient) send(text string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// hear waits for frames: the texts, or "binary" and the bytes in hexadecimal.
func (c *gripClient) hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		kind, data, err := c.conn.Read(ctx)
		cancel()
		got := string(data)
		if kind == websocket.MessageBinary {
			got = fmt.Sprintf("binary %x", data)
		}
		if err != nil || got != w {
			c.t.Fatalf("frame %q, %v; want %q", got, err, w)
		}
	}
}

// closed waits for the close frame.
func (c *gripClient) closed(code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, data, err := c.conn.Read(ctx)
	if got := int(websocket.CloseStatus(err)); got != code {
		c.t.Fatalf("frame %q, %v; want the close code %d", data, err, code)
	}
}

// playGrip is what clients of the site in testdata/grip/library.py do and see.
func playGrip(t *testing.T, r *peers.Relay) {
	if _, resp, err := wstest.Dial(t, r.URL+"/ws/?denied", nil); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Fatalf("%v, %v; want the site's 403", resp, err)
	}
	ann, bob := dialGrip(t, r.URL+"/ws/?user=ann"), dialGrip(t, r.URL+"/ws/?user=bob")
	ann.hear("welcome")
	bob.hear("welcome")
	for _, step := range [][2]string{
		{"hello", "hello"}, {"Grüße 👋", "Grüße 👋"}, {"signed", "True"}, {"meta", "ann"}, {"binary", "binary 00ff"},
	} {
		ann.send(step[0])
		ann.hear(step[1])
	}
	bob.send("publish")
	ann.hear("to the room", "binary 0102")
	bob.hear("to the room", "binary 0102")
	ann.send("forget")
	ann.hear("forgotten") // each message has a request of its own, as recorded
	ann.send("meta")
	ann.hear("none")
	ann.send("leave")
	ann.hear("left")
	bob.send("publish")
	bob.hear("binary 0102") // "to the room" has the id of the one before, and is dropped as by Pushpin
	ann.send("still alone")
	ann.hear("still alone")
	ann.send("close")
	ann.closed(4002)
	bob.send("end")
	bob.closed(4003)
	carol := dialGrip(t, r.URL+"/ws/?user=carol")
	carol.hear("welcome")
	carol.send("fail")
	carol.closed(1011)
	dave := dialGrip(t, r.URL+"/ws/?user=dave")
	dave.hear("welcome")
	if err := dave.conn.Close(4009, ""); err != nil {
		t.Errorf("the close is not answered: %v", err)
	}
	testkit.Eventually(t, "all connections end", func() bool {
		return !strings.Contains(fetch(t, r.Admin+"/metrics"), `edgerelay_sessions{kind="anybody"} 1`)
	})
}
