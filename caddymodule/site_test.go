package caddymodule

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// site is a Caddy in this process.
type site struct {
	t           testing.TB
	addr, admin string // host:port
	dir         string
}

// newSite picks ports; load starts the site.
func newSite(t testing.TB) *site {
	s := &site{
		t:    t,
		addr: fmt.Sprint("127.0.0.1:", testkit.FreePort(t)), admin: fmt.Sprint("127.0.0.1:", testkit.FreePort(t)),
		dir: t.TempDir(),
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// file is a Caddyfile with lines in the global option edgerelay, and directives in the one site.
func (s *site) file(lines, directives string) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period 1s
	storage file_system %s
	log {
		output discard
	}
	edgerelay {
%s
	}
}
`, s.admin, s.dir, lines) + s.addr2() + " {\n" + directives + "\n}\n"
}

func (s *site) addr2() string { return "http://" + s.addr }

// load gives Caddy a Caddyfile.
func (s *site) load(caddyfile string) error {
	config, err := adapt(caddyfile)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

func (s *site) mustLoad(lines, directives string) {
	s.t.Helper()
	if err := s.load(s.file(lines, directives)); err != nil {
		s.t.Fatal(err)
	}
}

// ask sends a handshake for a path, with more header lines, and returns the answer. The connection stays open until the
// test ends.
func (s *site) ask(path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	request := fmt.Sprintf(shake, path, s.addr)
	for _, h := range headers {
		name, _, _ := strings.Cut(h, ":")
		lines := strings.SplitAfter(request, "\r\n")
		for i, line := range lines { // replaces the line of the same name
			if strings.HasPrefix(line, name+":") {
				lines[i] = ""
			}
		}
		request = strings.Join(lines, "") + h + "\r\n"
	}
	return s.raw(request + "\r\n")
}

// raw sends bytes and reads one response.
func (s *site) raw(request string) (*http.Response, string) {
	s.t.Helper()
	var resp *http.Response
	err := again(func() error {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

// dial opens a websocket and reads the greeting.
func (s *site) dial(path string, header http.Header) *wstest.Client {
	s.t.Helper()
	var c *wstest.Client
	err := again(func() (err error) {
		c, _, err = wstest.Dial(s.t, "http://"+s.addr+path, header)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// again repeats what a reload may have broken.
func again(f func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := f()
		broken := testkit.Leaving(err) || errors.Is(err, io.ErrUnexpectedEOF)
		if !broken || time.Now().After(deadline) {
			return err
		}
	}
}

func next(t testing.TB, c *wstest.Client, want string) {
	t.Helper()
	if got, err := c.Next(patience); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

var csrf = http.Header{"Cookie": {"csrftoken=t"}}

func subscription(group string) string {
	kind, item, _ := strings.Cut(group, "-")
	return fmt.Sprintf(`{"groups": {%q: [%q]}, "xrftoken": "t"}`, kind, item)
}

// subscribe opens a websocket that listens to one group.
func (s *site) subscribe(group string) *wstest.Client {
	s.t.Helper()
	c := s.dial("/websocket/", csrf)
	next(s.t, c, `{"accept": true, "user": 1}`)
	if err := c.Send(subscription(group)); err != nil {
		s.t.Fatal(err)
	}
	next(s.t, c, fmt.Sprintf(`{"groups_current": [%q], "groups_left": [], "groups_joined": [%q]}`, group, group))
	return c
}

// post sends a body to the admin API.
func (s *site) post(path, body string) (int, string) {
	s.t.Helper()
	var resp *http.Response
	err := again(func() error {
		req, err := http.NewRequest(http.MethodPost, "http://"+s.admin+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Close = true // the admin server is another one after a reload
		resp, err = http.DefaultClient.Do(req)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
