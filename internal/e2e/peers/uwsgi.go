package peers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// UWSGI is a uWSGI server with the application of testdata/uwsgi.
type UWSGI struct {
	*process.Process
	// Socket is the address of the uwsgi protocol on TCP, Unix the path of a socket with the same protocol, and HTTP the
	// address of the http-socket.
	Socket, HTTP, Unix string

	dir string
}

// StartUWSGI starts a uWSGI with a number of workers and further options, and waits until all sockets answer.
func StartUWSGI(t testing.TB, workers int, options ...string) *UWSGI {
	t.Helper()
	dir, err := os.MkdirTemp("", "uwsgi-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	u := &UWSGI{
		Socket: testkit.Loopback(testkit.FreePort(t)), HTTP: testkit.Loopback(testkit.FreePort(t)),
		Unix: filepath.Join(dir,
			"uwsgi.sock"), dir: dir,
	}
	args := append([]string{
		"--plugin", "python3", "--socket", u.Socket, "--socket", u.Unix, "--http-socket", u.HTTP,
		"--wsgi-file", filepath.Join(Root(t), "internal", "e2e", "testdata", "uwsgi", "app.py"),
		"--processes", strconv.Itoa(workers), "--master", "--need-app", "--die-on-term", "--disable-logging",
		"--buffer-size", "32768",
	}, options...)
	cmd := exec.Command(process.Program(t, "uwsgi"), args...)
	cmd.Env = append(os.Environ(), "UWSGI_APP_COUNT="+u.countFile(), "PYTHONDONTWRITEBYTECODE=1")
	u.Process = process.Start(t, "uwsgi", cmd)
	u.Ready(t, func() error {
		for _, at := range [][2]string{{"tcp", u.Socket}, {"unix", u.Unix}} {
			conn, err := net.Dial(at[0], at[1])
			if err != nil {
				return err
			}
			conn.Close()
		}
		return answers("http://" + u.HTTP + "/post")()
	})
	return u
}

func (u *UWSGI) countFile() string { return filepath.Join(u.dir, "count") }

// StartPlainUWSGI starts a uWSGI with an application of one line on its http-socket, waits until it answers, and
// returns its host:port.
func StartPlainUWSGI(t testing.TB) (addr string) {
	t.Helper()
	app := filepath.Join(t.TempDir(), "app.py")
	const program = "def application(env, start):\n    start('200 OK', [('Content-Length', '3')])\n    return [b'ok\\n']\n"
	if err := os.WriteFile(app, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	addr = testkit.Loopback(testkit.FreePort(t))
	p := process.Start(t, "uwsgi",
		exec.Command(process.Program(t, "uwsgi"), "--plugin", "python3", "--http-socket", addr,
			"--wsgi-file", app, "--need-app", "--die-on-term"))
	p.Ready(t, answers("http://"+addr))
	return addr
}

// Executed returns the requests that the application has recorded, each as path and query.
func (u *UWSGI) Executed(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(u.countFile())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}
