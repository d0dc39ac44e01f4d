package browser

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// TestChromiumOverHTTP2 has a page open its WebSockets as streams of the page's HTTP/2 connection. A reload of Caddy
// keeps them, and the page resumes when the relay closes them.
func TestChromiumOverHTTP2(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1") // of the relay
	n := startNetworks(t)
	e := startEmitting(t, pace, n.publish)
	defer e.stop()
	page := n.chromium(t)
	page.Do(t, chromedp.Navigate(n.url["h2"]+"/doors.html"))
	page.Wait(t, soon, `window.events && events.length >= 5`)
	metric := func(want string) {
		t.Helper()
		testkit.Eventually(t, want, func() error {
			resp, err := http.Get(n.relay.Admin + "/metrics")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err == nil && !strings.Contains(string(text), "\n"+want+"\n") {
				_, got, _ := strings.Cut(string(text), "\nedgerelay_stream_connections ")
				err = fmt.Errorf("%.10q", got)
			}
			return err
		})
	}
	metric("edgerelay_stream_connections 1")
	page.Script(t, `window.socket = new WebSocket(location.origin.replace("http", "ws") + "/websocket/");
		window.told = []; socket.onmessage = (m) => told.push(m.data); socket.onclose = (c) => told.push("closed " + c.code)`)
	page.Wait(t, soon, `told.length == 1`)
	metric("edgerelay_stream_connections 2")

	cmd := exec.Command(n.relay.program, "reload", "--config", n.relay.config, "--adapter", "caddyfile", "--force",
		"--address", strings.TrimPrefix(n.relay.Admin, "http://"))
	cmd.Env = append(os.Environ(), "HOME="+n.relay.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("reload: %v\n%s", err, out)
	}
	// The grace period is a second, in which the relay asks the pages to come back.
	page.Wait(t, 10*time.Second, `told.at(-1) == "closed 1012"`)
	page.Script(t, `window.before = events.length`)
	page.Wait(t, 20*time.Second, `events.length > before + 5`)
	if !page.Holds(t, `faults() == 0`) {
		t.Errorf("the page missed or doubled events through the reload")
	}
	if !page.Holds(t, `client.door == "websocket"`) {
		t.Errorf("the client left the door of WebSockets")
	}
	// Chromium opens a WebSocket over HTTP/2 only beside a connection that is there. The new one is over HTTP/1.1, unless
	// the page has fetched something since.
}
