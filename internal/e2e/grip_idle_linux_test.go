package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// startEchoSite starts a site that echoes by WebSocket-over-HTTP, and subscribes each client to a channel, or to one of
// its own if the channel is empty.
func startEchoSite(t *testing.T, channel string) (address string, requests *atomic.Int64) {
	requests = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/websocket-events")
		if strings.HasPrefix(string(body), "OPEN") {
			w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix=""`)
			w.Header().Set("Set-Meta-User", r.URL.Query().Get("user"))
			control := `c:{"type": "subscribe", "channel": "` + channel + `"}`
			if channel == "" {
				control = `c:{"type": "subscribe", "channel": "user-` + r.URL.Query().Get("user") + `"}`
			}
			fmt.Fprintf(w, "OPEN\r\nTEXT %x\r\n%s\r\n", len(control), control)
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// Idle connections of a backend cost the site nothing, and the relay a bounded memory. EDGERELAY_IDLE sets their
// number.
func TestIdleBackendConnections(t *testing.T) {
	for channel, most := range map[string]int{"room": 2 << 10, "": 3 << 10} {
		t.Run("channel "+channel, func(t *testing.T) { testIdle(t, channel, most) })
	}
}

func testIdle(t *testing.T, channel string, most int) {
	clients := 1_000
	if n, err := strconv.Atoi(os.Getenv("EDGERELAY_IDLE")); err == nil {
		clients = n
	}
	site, requests := startEchoSite(t, channel)
	r := peers.StartRelay(t, strings.Replace(gripSite(site), "auth none", "auth none\n\t\tlimits {\n\t\t\tconnections_per_user 0\n\t\t}", 1))
	dial := func(i int) *wstest.Raw {
		c, err := wstest.DialRaw(fmt.Sprintf("%s/ws/?user=%d", r.URL, i), fmt.Sprintf("csrftoken=%032d; sessionid=%032d", i, i),
			"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Accept-Language: en-US,en;q=0.5",
			"Cache-Control: no-cache", "Pragma: no-cache", "Sec-Fetch-Dest: websocket", "Sec-Fetch-Mode: websocket",
			"Sec-Fetch-Site: same-origin", "Origin: "+r.URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	for i := range 200 { // what is made once
		dial(i)
	}
	heap, rss := heapBytes(t, r), resident(t, r)
	conns := make([]*wstest.Raw, clients)
	for i := range conns {
		conns[i] = dial(200 + i)
	}
	heap, opened := heapBytes(t, r)-heap, requests.Load()
	rss = resident(t, r) - rss
	t.Logf("%d idle connections: %d B heap and %d B resident each", clients, heap/clients, rss/clients)
	if each := heap / clients; each > most {
		t.Errorf("%d bytes of heap for each idle connection, want %d at most", each, most)
	}
	if err := conns[clients/2].Send("hello"); err != nil {
		t.Fatal(err)
	}
	if text, err := conns[clients/2].Next(patience); err != nil || text != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
	if opened != int64(clients+200) || requests.Load() != opened+1 {
		t.Errorf("%d requests for %d handshakes, then %d for a message", opened, clients+200, requests.Load()-opened)
	}
}
