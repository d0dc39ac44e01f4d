package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

const publishSecret = "a-secret-of-32-characters-and-so"

// examples/node-backend, to the letter but for its addresses: a change of an order and a message of the chat reach the
// pages, and the backend holds no WebSocket.
func TestNodeBackendExample(t *testing.T) {
	node := process.Program(t, "node")
	t.Setenv("SHOP_KEY", publishSecret)
	dir := filepath.Join(peers.Root(t), "examples", "node-backend")
	text, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	backend := testkit.Loopback(testkit.FreePort(t))
	caddyfile := strings.NewReplacer("\n{\n", "\n{\n\tadmin {$ADMIN}\n", "\nlocalhost {", "\n{$SITE} {", "127.0.0.1:3000", backend).
		Replace(string(text))
	relay := peers.StartRelay(t, caddyfile)
	server := exec.Command(node, filepath.Join(dir, "server.mjs"))
	server.Env = append(os.Environ(), "SITE="+relay.URL, "PORT="+backend[strings.LastIndexByte(backend, ':')+1:])
	process.Start(t, "node", server)
	testkit.Eventually(t, "the backend answers", func() bool {
		resp, err := http.Get("http://" + backend + "/orders")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})

	if page := fetch(t, relay.URL+"/"); !strings.Contains(page, "/ws/orders/") {
		t.Errorf("the page is %.200s", page)
	}
	orders, chat, other := dialPage(t, relay, "/ws/orders/"), dialPage(t, relay, "/ws/chat/"), dialPage(t, relay, "/ws/chat/")
	if status, answer := call(t, "POST", relay.URL+"/orders/17/paid", nil); status != 204 {
		t.Fatalf("the change of an order: %d %s", status, answer)
	}
	expectFrame(t, orders, `{"id": 17, "state": "paid"}`)
	if got := fetch(t, relay.URL+"/orders"); got != `{"17":"paid","18":"open"}` {
		t.Errorf("the orders are %s", got)
	}
	if err := chat.Send("hällo"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*wstest.Client{chat, other} {
		expectFrame(t, c, "Someone: hällo")
	}
}

// dialPage opens a WebSocket as a page of the site does.
func dialPage(t *testing.T, relay *peers.Relay, path string) *wstest.Client {
	t.Helper()
	c, _, err := wstest.Dial(t, strings.Replace(relay.URL, "http", "ws", 1)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(1000) })
	return c
}

func expectFrame(t *testing.T, c *wstest.Client, want string) {
	t.Helper()
	got, err := c.Next(patience)
	if err != nil || got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// The examples of docs/publishing.md, each as it stands there but for the address.
func TestPublishingExamples(t *testing.T) {
	t.Setenv("SHOP_KEY", publishSecret)
	text, err := os.ReadFile(filepath.Join(peers.Root(t), "docs", "publishing.md"))
	if err != nil {
		t.Fatal(err)
	}
	relay := peers.StartRelay(t, `{
	admin {$ADMIN}
	edgerelay {
		auth none
	}
}
{$SITE} {
	edgerelay_publish {
		key shop {env.SHOP_KEY} {
			groups orders-* user-*
		}
	}
	edgerelay {
		route /ws/orders/{id}/ {
			groups orders-{id}
			on order.changed json state
		}
	}
}
`)
	dir := t.TempDir()
	examples := map[string]func(code string) *exec.Cmd{
		"sh": func(code string) *exec.Cmd {
			return exec.Command("/bin/sh", "-e", "-c", strings.Replace(code, "curl ", "curl -sS --fail-with-body ", 1))
		},
		"python": func(code string) *exec.Cmd {
			return exec.Command(process.Program(t, "python3"), "-c", code)
		},
		"js": func(code string) *exec.Cmd {
			return exec.Command(process.Program(t, "node"), "--input-type=module", "-e", code)
		},
		"go": func(code string) *exec.Cmd {
			file := filepath.Join(dir, "main.go")
			if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			return exec.Command("go", "run", file)
		},
	}
	seen := map[string]int{}
	for _, m := range regexp.MustCompile("(?s)```(sh|python|js|go)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		language, code := m[1], m[2]
		if !strings.Contains(code, "https://example.com/edgerelay/publish") {
			continue
		}
		seen[language]++
		t.Run(language, func(t *testing.T) {
			client := dialPage(t, relay, "/ws/orders/17/")
			out, err := examples[language](strings.ReplaceAll(code, "https://example.com", relay.URL)).CombinedOutput()
			if err != nil || !regexp.MustCompile(`published['"]?: ?[13]`).Match(out) {
				t.Fatalf("%v: %s\n%s", err, out, code)
			}
			want := `{"state": "paid"}`
			if strings.Contains(code, "nightly") {
				want = `{"state": "sent"}`
			}
			expectFrame(t, client, want)
		})
	}
	for language := range examples {
		if seen[language] == 0 {
			t.Errorf("docs/publishing.md has no example in %s", language)
		}
	}
}
