package django

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// patience bounds every wait for a frame; only a failure uses it up.
const patience = 30 * time.Second

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// play is one run of a script: it visits a site like a browser and writes down what the site says over WebSockets.
type play struct {
	*testing.T
	// url is the site's address, without a slash at the end.
	url   string
	redis *peers.Redis
	// emitter sends messages to groups.
	emitter *peers.Layer

	visitors map[string]*http.Client
	sockets  map[string]*wstest.Client
	heard    []string
}

// visitor returns the HTTP client of a person, with the person's cookies.
func (p *play) visitor(name string) *http.Client {
	if p.visitors[name] == nil {
		jar, err := cookiejar.New(nil)
		if err != nil {
			p.Fatal(err)
		}
		p.visitors[name] = &http.Client{Transport: http.DefaultClient.Transport, Jar: jar, Timeout: patience}
	}
	return p.visitors[name]
}

// cookies returns the cookies of a person.
func (p *play) cookies(name string) []*http.Cookie {
	at, err := url.Parse(p.url)
	if err != nil {
		p.Fatal(err)
	}
	return p.visitor(name).Jar.Cookies(at)
}

// logIn submits the form of Django's LoginView.
func (p *play) logIn(name string) {
	p.Helper()
	resp, err := p.visitor(name).Get(p.url + "/login/")
	if err != nil {
		p.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		p.Fatalf("the login page: %s", resp.Status)
	}
	if got := p.post(name, "/login/", url.Values{
		"username": {name}, "password": {peers.Password(name)},
	}); got != http.StatusOK {
		p.Fatalf("login of %s: %d", name, got)
	}
	if !slices.ContainsFunc(p.cookies(name), func(c *http.Cookie) bool { return c.Name == "sessionid" }) {
		p.Fatalf("%s has no session", name)
	}
}

// post submits a form with the person's cookies and the token of the cookie csrftoken, follows redirects, and returns
// the status.
func (p *play) post(name, path string, form url.Values) int {
	p.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range p.cookies(name) {
		if c.Name == "csrftoken" {
			req.Header.Set("X-CSRFToken", c.Value)
		}
	}
	resp, err := p.visitor(name).Do(req)
	if err != nil {
		p.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// postJSON sends a value as JSON with a bearer token, which may be empty, and returns the answer if the status is 200.
func (p *play) postJSON(token, path string, value any) (answer map[string]any) {
	p.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		p.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(string(text)))
	if err != nil {
		p.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
	case http.StatusOK:
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			p.Fatal(err)
		}
	default:
		p.Fatalf("%s: %s", path, resp.Status)
	}
	return answer
}

// connect opens a WebSocket as a page of the site does, with the cookies of the person, whose name is the first word of
// the connection's. The record has the status and the subprotocol.
func (p *play) connect(name, path string, subprotocols ...string) {
	p.Helper()
	p.connectFrom(p.url, name, path, subprotocols...)
}

// connectFrom is connect from a page of another origin.
func (p *play) connectFrom(origin, name, path string, subprotocols ...string) {
	p.Helper()
	header := http.Header{"Origin": {origin}}
	person, _, _ := strings.Cut(name, " ")
	var cookies []string
	for _, c := range p.cookies(person) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if cookies != nil {
		header.Set("Cookie", strings.Join(cookies, "; "))
	}
	for _, s := range subprotocols {
		header.Add("Sec-WebSocket-Protocol", s)
	}
	client, resp, err := wstest.Dial(p, p.url+path, header)
	if err != nil && resp == nil {
		p.Fatalf("%s: %v", name, err)
	}
	if err != nil {
		p.record("%s: status %d", name, resp.StatusCode)
		return
	}
	p.record("%s: open%s", name, strings.TrimRight(" "+client.Subprotocol(), " "))
	p.sockets[name] = client
}

// send sends a text message on a connection.
func (p *play) send(name, text string) {
	p.Helper()
	if err := p.sockets[name].Send(text); err != nil {
		p.Fatalf("%s: %v", name, err)
	}
}

// hear records the next frames of a connection, or its end.
func (p *play) hear(name string, frames int) {
	p.Helper()
	if p.sockets[name] == nil {
		p.Fatalf("%s is not connected, after:\n%s", name, strings.Join(p.heard, "\n"))
	}
	for range frames {
		data, binary, err := p.sockets[name].NextMessage(patience)
		switch code := wstest.CloseCode(err); {
		case code != -1:
			p.record("%s: closed with %d", name, code)
			return
		case err != nil:
			p.Fatalf("%s: %v, after:\n%s", name, err, strings.Join(p.heard, "\n"))
		case binary:
			p.record("%s: bytes %x", name, data)
		default:
			p.record("%s: %s", name, data)
		}
	}
}

// leave closes a connection.
func (p *play) leave(name string) {
	p.Helper()
	if err := p.sockets[name].Close(1000); err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	delete(p.sockets, name)
}

func (p *play) record(format string, args ...any) {
	p.heard = append(p.heard, fmt.Sprintf(format, args...))
}

// script is what browsers do on a site, and what they hear.
type script struct {
	play func(p *play)
	// want has a line for each frame and for each attempt to connect, in the order in which the script listens.
	want string
}

// run plays the script on a site and compares.
func (s script) run(t *testing.T, url string, redis *peers.Redis, emitter *peers.Layer) {
	t.Helper()
	p := &play{
		T: t, url: url, redis: redis, emitter: emitter, visitors: map[string]*http.Client{}, sockets: map[string]*wstest.Client{},
	}
	s.play(p)
	if got, want := strings.Join(p.heard, "\n"), strings.TrimSpace(s.want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// example is a site of examples/django.
type example struct {
	name   string
	script script
	// prepare are commands of manage.py.
	prepare []string
}

// caddyfile returns the example's Caddyfile with other addresses and nothing else. Each address must be in the file.
func (e example) caddyfile(t *testing.T, redisURL, uwsgi string) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/django/" + e.name + "/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	// The default of settings.py.
	config := strings.ReplaceAll(string(text), "{env.JWT_KEY}", `"a key of at least 32 bytes, only for this example"`)
	return readdress(t, config, map[string]string{
		"\n" + e.name + ".example.com {": "\n{$SITE} {",
		"redis://127.0.0.1:6379/0":       redisURL,
		"127.0.0.1:8000":                 uwsgi,
	})
}

var globalOptions = regexp.MustCompile(`(?m)^\{\n`)

// readdress replaces addresses in a Caddyfile and adds the address of the admin API to its global options.
func readdress(t *testing.T, config string, addresses map[string]string) string {
	t.Helper()
	for from, to := range addresses {
		if !strings.Contains(config, from) {
			t.Fatalf("the Caddyfile has no %q:\n%s", from, config)
		}
		config = strings.ReplaceAll(config, from, to)
	}
	if at := globalOptions.FindStringIndex(config); at != nil {
		return config[:at[1]] + "\tadmin {$ADMIN}\n\tpersist_config off\n" + config[at[1]:]
	}
	t.Fatal("the Caddyfile has no global options")
	return ""
}

// compare plays the example's script against Daphne, and against the relay with uWSGI: no Python process holds a
// WebSocket.
func (e example) compare(t *testing.T) {
	t.Run("daphne", func(t *testing.T) {
		redis := peers.StartRedis(t)
		site := peers.NewDjangoSite(t, "examples/django/"+e.name, redis.URL)
		for _, command := range e.prepare {
			site.Manage(command)
		}
		url, _ := site.StartDaphne()
		e.script.run(t, url, redis, peers.StartEmitter(t, redis.URL))
	})
	t.Run("relay", func(t *testing.T) {
		redis := peers.StartRedis(t)
		site := peers.NewDjangoSite(t, "examples/django/"+e.name, redis.URL)
		for _, command := range e.prepare {
			site.Manage(command)
		}
		relay := peers.StartRelay(t, e.caddyfile(t, redis.URL, site.StartUWSGI()))
		e.script.run(t, relay.URL, redis, peers.StartEmitter(t, redis.URL))
	})
}
