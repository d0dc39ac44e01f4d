package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// begin starts a site that prints a message, and returns the message with its version cut out. The log stays empty.
func begin(t *testing.T, site *site, last string) string {
	t.Helper()
	printed := new(output)
	site.stdout = printed
	site.start(t)
	testkit.Eventually(t, "the start message", func() bool { return strings.HasSuffix(printed.String(), last) })
	if log := site.process.Log(); log != "" {
		t.Errorf("the log of a start is not empty:\n%s", log)
	}
	got := printed.String()
	if at := strings.Index(got, "is ready"); at > 0 { // a build from a tag has its version here
		got = "\nedgerelay " + got[at:]
	}
	return got
}

// What a newcomer sees of `make run`: one block with addresses that answer and a command that works, and no log.
func TestStartMessage(t *testing.T) {
	site := newSite(t)
	command := fmt.Sprintf(`%s edgerelay publish --address %s --group jobs-status_changed --data '{"unified_job_id": 42, "status": "successful", "password": "hunter2"}'`,
		site.program, strings.TrimPrefix(site.Admin, "http://"))
	want := fmt.Sprintf(`
edgerelay is ready. Next steps:

  Open the demo   %[1]s
  Publish         %[2]s
  Console         %[1]sedgerelay/
  Documentation   make docs-serve, then http://localhost:8014/

Every client may publish here: for development only. Ctrl-C stops it.

`, site.URL, command)
	if got := begin(t, site, "stops it.\n\n"); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}

	ctx := t.Context()
	conn, _, err := websocket.Dial(ctx, site.URL+"websocket/",
		&websocket.DialOptions{HTTPHeader: map[string][]string{"Cookie": {"csrftoken=t"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText,
		[]byte(`{"groups": {"jobs": ["status_changed"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // accept and groups_current
		read(ctx, t, conn)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	var event struct{ Status, Password string }
	if err := json.Unmarshal(read(ctx, t, conn), &event); err != nil || event.Status != "successful" ||
		event.Password != "********" {
		t.Errorf("got %+v, %v", event, err)
	}
}

func read(ctx context.Context, t *testing.T, conn *websocket.Conn) []byte {
	t.Helper()
	_, frame, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// The image without a configuration of its own: no client gets in, and the block names the next step.
func TestStartMessageOfTheImage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "container", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	port := testkit.FreePort(t)
	s := &site{
		URL: fmt.Sprintf("http://localhost:%d/", port), program: caddy(t), config: filepath.Join(t.TempDir(), "Caddyfile"),
		home: t.TempDir(),
	}
	config := strings.NewReplacer("8080", fmt.Sprint(port), "8443", fmt.Sprint(testkit.FreePort(t)),
		"{\n\thttp_port", "{\n\tadmin off\n\thttp_port").Replace(string(text))
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	got := begin(t, s, "/docs\n\n")
	for _, part := range []string{
		"edgerelay has no configuration and rejects every client", "docker run --rm -p 8013:8013 <image> edgerelay demo",
		"-v ./Caddyfile:/etc/edgerelay/Caddyfile:ro",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("printed without %q:\n%s", part, got)
		}
	}
	resp, err := http.Get(s.URL + "websocket/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Errorf("GET websocket/: %s", resp.Status)
	}
}

// `caddy edgerelay demo` needs no file: page, plugin and console answer.
func TestDemoCommand(t *testing.T) {
	port, admin := testkit.FreePort(t), testkit.FreePort(t)
	printed := new(output)
	cmd := exec.Command(caddy(t), "edgerelay", "demo", "--port", fmt.Sprint(port), "--admin", fmt.Sprintf("localhost:%d", admin))
	cmd.Dir, cmd.Stdout = t.TempDir(), printed
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME="+cmd.Dir, "XDG_DATA_HOME="+cmd.Dir, "TMPDIR="+cmd.Dir)
	p := process.Start(t, "the demo", cmd)
	testkit.Eventually(t, "the start message", func() bool { return strings.HasSuffix(printed.String(), "stops it.\n\n") })
	url := fmt.Sprintf("http://localhost:%d/", port)
	for _, part := range []string{"Open the demo   " + url + "\n", "edgerelay publish --address " + fmt.Sprintf("localhost:%d", admin)} {
		if !strings.Contains(printed.String(), part) {
			t.Errorf("printed without %q:\n%s", part, printed)
		}
	}
	for path, part := range map[string]string{
		"": "<h1>edgerelay demo</h1>", "demo/about": `"name":"redact"`, "demo/client/index.js": "export class Client",
		"edgerelay/": "<title>", "health": `"status"`,
	} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), part) {
			t.Errorf("/%s: %s, without %q: %.200s", path, resp.Status, part, body)
		}
	}
	if err := p.Stop(t, 20*time.Second); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	// A port in use is told in one line, and nothing is left behind.
	taken, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	second := exec.Command(cmd.Path, cmd.Args[1:]...)
	second.Dir, second.Env = cmd.Dir, cmd.Env
	out, err := second.CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "stop the other program, or set --port") {
		t.Errorf("with the port in use: %v:\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(cmd.Dir, "edgerelay-demo-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
