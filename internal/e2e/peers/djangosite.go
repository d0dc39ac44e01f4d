package peers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// DjangoSite is a Django project with Channels consumers, such as examples/django/chat. Its folder has a manage.py and
// a package mysite. The same project runs under Daphne, which serves HTTP and WebSockets, and under uWSGI, which holds
// no WebSocket.
type DjangoSite struct {
	t      testing.TB
	dir    string
	python string
	env    []string
}

// NewDjangoSite prepares the project in a folder of the repository for a channel layer on the given Redis, with a
// database of its own. Further environment variables are NAME=value.
func NewDjangoSite(t testing.TB, dir, redisURL string, env ...string) *DjangoSite {
	t.Helper()
	return &DjangoSite{
		t: t, dir: filepath.Join(Root(t), filepath.FromSlash(dir)), python: Python,
		env: append(append(os.Environ(), "REDIS_URL="+redisURL, "DATABASE="+filepath.Join(t.TempDir(), "db.sqlite3"),
			"DJANGO_SETTINGS_MODULE=mysite.settings", "PYTHONDONTWRITEBYTECODE=1"), env...),
	}
}

// Use sets another interpreter, which has other versions of Django and Channels.
func (s *DjangoSite) Use(interpreter string) { s.python = interpreter }

// Manage runs manage.py with arguments: "migrate".
func (s *DjangoSite) Manage(args ...string) {
	s.t.Helper()
	cmd := exec.Command(process.Program(s.t, s.python), append([]string{"manage.py"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("manage.py %v: %v; mend a missing package with: %s\n%s", args, err, process.Install, out)
	}
}

// StartDaphne starts Daphne with the project and waits until it answers. It returns http://host:port.
func (s *DjangoSite) StartDaphne() (url string, daphne *process.Process) {
	s.t.Helper()
	port := testkit.FreePort(s.t)
	cmd := exec.Command(process.Program(s.t, s.python), "-u", "-B", "-m", "daphne", "--bind", "127.0.0.1", "--port",
		strconv.Itoa(port), "--verbosity", "0", "mysite.asgi:application")
	cmd.Dir, cmd.Env = s.dir, s.env
	daphne = process.Start(s.t, "daphne", cmd)
	s.ready(daphne, testkit.Loopback(port))
	return "http://" + testkit.Loopback(port), daphne
}

// StartUWSGI starts uWSGI with the project and waits until its socket accepts connections. It returns host:port of the
// uwsgi protocol.
func (s *DjangoSite) StartUWSGI() (addr string) {
	s.t.Helper()
	addr = testkit.Loopback(testkit.FreePort(s.t))
	cmd := exec.Command(process.Program(s.t, "uwsgi"), "--plugin", "python3", "--socket", addr, "--module",
		"mysite.wsgi:application", "--pythonpath", s.dir, "--need-app", "--die-on-term", "--threads", "4",
		"--buffer-size", "32768", "--disable-logging")
	cmd.Dir, cmd.Env = s.dir, s.env
	s.ready(process.Start(s.t, "uwsgi", cmd), addr)
	return addr
}

func (s *DjangoSite) ready(p *process.Process, addr string) {
	s.t.Helper()
	p.Ready(s.t, func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}
