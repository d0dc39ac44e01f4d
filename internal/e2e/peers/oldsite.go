package peers

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// OldSite is a small Django site in the shape of AWX, served without the relay: nginx in front of uWSGI for the
// application and of Daphne for WebSockets. Each process can be stopped and started again.
type OldSite struct {
	// URL is the address of nginx, without a slash at the end.
	URL string
	// Socket is the host:port of the uwsgi protocol.
	Socket string
	// Static is the folder of static files.
	Static string

	NGINX, UWSGI, Daphne *process.Process

	t            testing.TB
	env          []string
	python, conf string
	port, daphne int
}

// StartOldSite starts all processes on one Redis and waits until they answer.
func StartOldSite(t testing.TB, redisURL string) *OldSite {
	t.Helper()
	s := &OldSite{
		t: t, port: testkit.FreePort(t), daphne: testkit.FreePort(t),
		python: filepath.Join(Root(t), "internal", "e2e", "testdata", "python"),
		env: append(os.Environ(), "CONTROLLER_REDIS="+redisURL, "CONTROLLER_STATE="+t.TempDir(),
			"DJANGO_SETTINGS_MODULE=awxsite.settings", "PYTHONDONTWRITEBYTECODE=1"),
	}
	s.URL = "http://" + testkit.Loopback(s.port)
	s.Static = filepath.Join(s.python, "awxsite", "static")
	socket := testkit.FreePort(t)
	s.Socket = testkit.Loopback(socket)
	s.writeConf(socket)

	uwsgi := exec.Command(process.Program(t, "uwsgi"), "--plugin", "python3", "--socket", s.Socket, "--module",
		"awxsite.wsgi:application", "--pythonpath", s.python, "--need-app", "--die-on-term", "--threads", "4",
		"--buffer-size", "32768")
	uwsgi.Env = s.env
	uwsgi.Dir = s.python
	s.UWSGI = process.Start(t, "uwsgi", uwsgi)
	s.UWSGI.Ready(t, func() error {
		conn, err := net.Dial("tcp", s.Socket)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	s.StartDaphne()
	s.StartNGINX()
	return s
}

func (s *OldSite) writeConf(uwsgi int) {
	template, err := os.ReadFile(filepath.Join(s.python, "awxsite", "nginx.conf.in"))
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	s.conf = filepath.Join(dir, "nginx.conf")
	text := strings.NewReplacer("@DIR@", dir, "@PORT@", strconv.Itoa(s.port), "@UWSGI@", strconv.Itoa(uwsgi),
		"@DAPHNE@", strconv.Itoa(s.daphne), "@STATIC@", s.Static).Replace(string(template))
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// StartNGINX starts nginx, also after a stop.
func (s *OldSite) StartNGINX() {
	s.t.Helper()
	s.NGINX = process.Start(s.t, "nginx",
		exec.Command(process.Program(s.t, "nginx"), "-p", filepath.Dir(s.conf), "-e", "stderr", "-c", s.conf))
	s.NGINX.Ready(s.t, answers(s.URL+"/stats/"))
}

// StartDaphne starts Daphne, also after a stop.
func (s *OldSite) StartDaphne() {
	s.t.Helper()
	cmd := exec.Command(process.Program(s.t, Python), "-u", "-B", "-m", "daphne", "--bind", "127.0.0.1", "--port",
		strconv.Itoa(s.daphne),
		"--verbosity", "0", "--websocket_timeout", "-1", "controller.asgi:application")
	cmd.Dir = s.python
	cmd.Env = s.env
	s.Daphne = process.Start(s.t, "daphne", cmd)
	s.Daphne.Ready(s.t, answers("http://"+testkit.Loopback(s.daphne)+"/stats/"))
}

// answers returns a check that an address answers with 200.
func answers(url string) func() error {
	return func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return &statusError{url, resp.Status}
		}
		return nil
	}
}

type statusError struct{ url, status string }

func (e *statusError) Error() string { return e.url + ": " + e.status }
