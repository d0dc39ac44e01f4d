package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/edgerelay/edgerelay/internal/browser"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// Go's libraries decode every form, with and without a window.
func TestGoClientsDecompress(t *testing.T) {
	s := newStudio(t)
	for name, mode := range map[string]websocket.CompressionMode{
		"disabled": websocket.CompressionDisabled, "takeover": websocket.CompressionContextTakeover,
		"no-takeover": websocket.CompressionNoContextTakeover,
	} {
		t.Run("coder "+name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, s.url("/coder/"+name), &websocket.DialOptions{CompressionMode: mode})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			conn.SetReadLimit(1 << 20)
			read := func() (string, error) {
				_, b, err := conn.Read(ctx)
				return string(b), err
			}
			if err := conn.Write(ctx, websocket.MessageText, reportOn(untilEnd(t, read))); err != nil {
				t.Fatal(err)
			}
			v := s.expect(t, "/coder/"+name, testkit.Patience, nil)
			switch mode {
			case websocket.CompressionDisabled:
				if v.sent != v.plain || v.answer != "" {
					t.Errorf("answer %q, %d bytes of %d", v.answer, v.sent, v.plain)
				}
			case websocket.CompressionNoContextTakeover:
				if v.forms[relay.Each] < 20 {
					t.Errorf("forms %v", v.forms)
				}
			default:
				compresses(t, v)
			}
		})
	}
	t.Run("gorilla", func(t *testing.T) {
		conn, _, err := (&gorilla.Dialer{EnableCompression: true}).Dial(s.url("/gorilla"), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		read := func() (string, error) {
			_, b, err := conn.ReadMessage()
			return string(b), err
		}
		if err := conn.WriteMessage(gorilla.TextMessage, reportOn(untilEnd(t, read))); err != nil {
			t.Fatal(err)
		}
		v := s.expect(t, "/gorilla", testkit.Patience, nil)
		if v.forms[relay.Each] < 20 || v.received.Load() > reportLength/4 {
			t.Errorf("forms %v, a report of %d bytes", v.forms, v.received.Load())
		}
	})
}

// untilEnd reads the texts before the last one.
func untilEnd(t *testing.T, read func() (string, error)) (texts []string) {
	for {
		switch text, err := read(); {
		case err != nil:
			t.Fatalf("after %d messages: %v", len(texts), err)
		case text == "end":
			return texts
		default:
			texts = append(texts, text)
		}
	}
}

// clientPatience is the time limit of a client that is a program: browsers start slowly on a busy machine.
const clientPatience = 2 * time.Minute

func TestChromiumDecompresses(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	p := browser.Open(t)
	p.Script(t, fmt.Sprintf("location.href = %q", s.URL+"/page/chromium"))
	compresses(t, s.expect(t, "/chromium", clientPatience, nil))
}

func TestFirefoxDecompresses(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	home := t.TempDir()
	ended := start(t, home, "firefox-esr", "--headless", "--no-remote", "--profile", home, s.URL+"/page/firefox")
	compresses(t, s.expect(t, "/firefox", clientPatience, ended))
}

// start runs a program until the end of the test. The channel is closed when the program ends by itself.
func start(t *testing.T, home, program string, args ...string) (ended <-chan struct{}) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v; run scripts/install-test-deps.sh", err)
	}
	out, done := &testkit.Buffer{}, make(chan struct{})
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("%s says:\n%s", program, out.String())
		}
	})
	return done
}

// Node's usual library, ws from npm, decodes every form.
func TestNodeDecompresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "ws.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata/clients", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	s := newStudio(t)
	ended := start(t, dir, "node", "ws.mjs", s.url("/ws"))
	compresses(t, s.expect(t, "/ws", clientPatience, ended))
}

// Python's libraries of Debian decode every form. EDGERELAY_CLIENT_PYTHON names a Python with others; make compat
// has the newest ones.
func TestPythonDecompresses(t *testing.T) {
	t.Parallel()
	python := "/usr/bin/python3"
	if other := os.Getenv("EDGERELAY_CLIENT_PYTHON"); other != "" {
		python = other
	}
	s := newStudio(t)
	for _, c := range []struct {
		name   string
		kept   bool
		script string
	}{
		{"websockets", true, "websockets_client.py"},
		{"websockets-window-11", false, "websockets_client.py"},
		{"websockets-window-12", false, "websockets_client.py"},
		{"websockets-no-takeover", false, "websockets_client.py"},
		{"aiohttp", true, "aiohttp_client.py"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script, err := filepath.Abs(filepath.Join("testdata/clients", c.script))
			if err != nil {
				t.Fatal(err)
			}
			ended := start(t, t.TempDir(), python, script, s.url("/"+c.name))
			v := s.expect(t, "/"+c.name, clientPatience, ended)
			if c.kept {
				compresses(t, v)
			}
			if v.sent >= v.plain || v.answer == "" {
				t.Errorf("answer %q, %d bytes of %d", v.answer, v.sent, v.plain)
			}
		})
	}
}
