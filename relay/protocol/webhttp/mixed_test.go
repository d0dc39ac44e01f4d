package webhttp_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// moods are the answers of a backend that does all it can.
var moods = []string{
	text("plain"), control(subscribeRoom), control(subscribeRoom + `, "filters": ["skip-self", "var-subst"]`),
	control(`"type": "unsubscribe", "channel": "room"`), control(`"type": "detach"`) + text("behind"),
	control(`"type": "set-meta", "name": "user", "value": "ann"`), control(`"type": "keep-alive", "content": "k", "timeout": 0.01`),
	control(`"type": "keep-alive"`), control(`"type": "send-delayed", "content": "d", "timeout": 0.01`),
	control(`"type": "flush-delayed"`), "PING 1\r\nx\r\n", "CLOSE 2\r\n\x0f\xa1\r\n", "DISCONNECT\r\n", "OPEN\r\n", "nonsense",
}

// Backends that do all they can, clients that come and go, and publications leave nothing behind, and each connection
// is told of its end once at most.
func TestEverythingAtOnce(t *testing.T) {
	answer := opens(control(subscribeRoom), func(w http.ResponseWriter, r *request) {
		w.Header().Set("Keep-Alive-Interval", "1")
		switch rand.N(12) {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.Header().Set("Content-Bytes-Accepted", "1")
		case 3:
			time.Sleep(5 * time.Millisecond)
		}
		for range rand.N(4) {
			_, _ = io.WriteString(w, moods[rand.N(len(moods))])
		}
	})
	s := startSite(t, answer)
	e := startEdge(t, s.URL, func(s *webhttp.Settings, l *relay.Limits) { s.Concurrency, s.Queue = 4, 64 })
	e.Hurry(1000)
	stop := make(chan struct{})
	var publisher, clients sync.WaitGroup
	publisher.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			item := `{"channel": "room", "ws-message": {"content": "%(user)s"}, "meta": {"sender": "ann"}}`
			if i%20 == 0 {
				item = `{"channel": "room", "ws-message": {"action": "refresh"}}`
			}
			if i%50 == 0 {
				item = `{"channel": "room", "ws-message": {"action": "close", "code": 4000}}`
			}
			e.publish(t, item)
		}
	})
	for i := range 8 {
		clients.Go(func() {
			for n := range 40 {
				c, err := wstest.DialRaw(e.url+fmt.Sprintf("/?user=%d", i), "")
				if err != nil {
					continue // the backend, or the queue, rejected it
				}
				for range rand.N(5) {
					if c.Send(fmt.Sprint("m", n)) != nil {
						break
					}
					_, _ = c.Next(3 * time.Millisecond)
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	close(stop)
	publisher.Wait()
	testkit.Eventually(t, "the sessions end", func() bool { return e.Stats.Connections.Load() == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := map[string]int{}
	for _, r := range s.requests {
		if strings.HasPrefix(r.body, "OPEN") {
			continue
		}
		id := r.Header.Get("Connection-Id")
		if ends[id] > 0 && !strings.Contains(r.body, "Content-Bytes") && r.Header.Get("Content-Bytes-Replayed") == "" {
			t.Errorf("a request %q after the end", r.body)
		}
		if strings.Contains(r.body, "DISCONNECT\r\n") || strings.Contains(r.body, "CLOSE") {
			ends[id]++
		}
	}
}
