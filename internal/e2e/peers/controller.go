package peers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// Controller is a Django and Channels project under a real Daphne: the reference for the client protocol, and the API
// behind `auth awx`.
type Controller struct {
	*process.Process
	// URL is http://host:port, without a slash at the end.
	URL string

	t    testing.TB
	port int
	env  []string
}

// Users of the controller; UserIDs has their ids. Admin is a superuser. The file people.py lists the permissions of the
// others: alice sees jobs 1, 42, 44 and 100, workflow job 7, ad hoc command 5 and number 3 of the three kinds of
// updates; bob sees jobs 1 and 44; only admin sees job 43, workflow job 8, ad hoc command 6 and number 4 of the
// updates.
const (
	Admin = "admin"
	Alice = "alice"
	Bob   = "bob"
)

// UserIDs maps the users of the controller to their ids.
var UserIDs = map[string]int{Admin: 1, Alice: 2, Bob: 3}

// Password returns the password of a user of the controller.
func Password(user string) string { return user + "-password" }

// Login holds the credentials of a logged-in browser.
type Login struct {
	User string
	// Session and CSRF are the values of the cookies awx_sessionid and csrftoken.
	Session, CSRF string
}

// Header returns the Cookie header of the login, for a handshake or a request.
func (l Login) Header() http.Header {
	return http.Header{"Cookie": {"awx_sessionid=" + l.Session + "; csrftoken=" + l.CSRF}}
}

// StartController starts the controller with a channel layer on the given Redis and waits until Daphne answers.
func StartController(t testing.TB, redisURL string) *Controller {
	t.Helper()
	port := testkit.FreePort(t)
	c := &Controller{
		URL: "http://" + testkit.Loopback(port),
		t:   t, port: port,
		env: []string{"CONTROLLER_REDIS=" + redisURL, "CONTROLLER_STATE=" + t.TempDir()},
	}
	c.Restart()
	return c
}

// Addr returns host:port.
func (c *Controller) Addr() string { return testkit.Loopback(c.port) }

// Restart starts the controller again on the same port, after Kill or Stop. Logins remain valid.
func (c *Controller) Restart() {
	c.t.Helper()
	cmd := exec.Command(process.Program(c.t, Python), "-u", "-B", "-m", "daphne",
		"--bind", "127.0.0.1", "--port", strconv.Itoa(c.port), "--verbosity", "0",
		"controller.asgi:application")
	cmd.Dir = filepath.Join(Root(c.t), "internal", "e2e", "testdata", "python")
	cmd.Env = append(os.Environ(), c.env...)
	c.Process = process.Start(c.t, "daphne", cmd)
	c.Ready(c.t, func() error {
		resp, err := http.Get(c.URL + "/stats/")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("/stats/: %s", resp.Status)
		}
		return nil
	})
}

// Login logs a user in.
func (c *Controller) Login(user string) Login {
	c.t.Helper()
	form := url.Values{"username": {user}, "password": {Password(user)}}
	resp, err := http.PostForm(c.URL+"/login/", form)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	l := Login{User: user}
	for _, cookie := range resp.Cookies() {
		switch cookie.Name {
		case "awx_sessionid":
			l.Session = cookie.Value
		case "csrftoken":
			l.CSRF = cookie.Value
		}
	}
	if resp.StatusCode != http.StatusNoContent || l.Session == "" || l.CSRF == "" {
		c.t.Fatalf("login of %s: %s, cookies %v", user, resp.Status, resp.Cookies())
	}
	return l
}

// Logout ends a login on the server.
func (c *Controller) Logout(l Login) {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.URL+"/logout/", strings.NewReader(""))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header = l.Header()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		c.t.Fatalf("logout: %s", resp.Status)
	}
}

// Hits returns the number of requests for each part of the API: "me", "jobs", ...
func (c *Controller) Hits() map[string]int {
	c.t.Helper()
	resp, err := http.Get(c.URL + "/stats/")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	hits := map[string]int{}
	if err := json.NewDecoder(resp.Body).Decode(&hits); err != nil {
		c.t.Fatalf("/stats/: %v", err)
	}
	return hits
}
