//go:build soak

package soak

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// hookSite counts the requests that functions make, by body.
type hookSite struct {
	url string

	mu   sync.Mutex
	seen map[string]int
}

func startHooks(t *testing.T) *hookSite {
	h := &hookSite{seen: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.seen[string(body)]++
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// times returns how often a request has come.
func (h *hookSite) times(body string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[body]
}

// backendSite answers the messages of clients by WebSocket-over-HTTP: it echoes them, and keeps the messages of each
// client, which the query names.
type backendSite struct {
	url string

	mu     sync.Mutex
	heard  map[string][]string
	faults []string
	busy   map[string]bool // clients with a request in progress
}

func startBackend(t *testing.T) *backendSite {
	b := &backendSite{heard: map[string][]string{}, busy: map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *backendSite) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	client := r.URL.RawQuery
	b.mu.Lock()
	if b.busy[client] {
		b.faults = append(b.faults, "two requests of client "+client+" overlap")
	}
	b.busy[client] = true
	heard := texts(string(body))
	b.heard[client] = append(b.heard[client], heard...)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/websocket-events")
	if strings.HasPrefix(string(body), "OPEN") {
		w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix="m:"`)
		_, _ = io.WriteString(w, "OPEN\r\n")
	}
	for _, text := range heard {
		_, _ = fmt.Fprintf(w, "TEXT %x\r\nm:%s\r\n", len(text)+2, text)
	}
	b.mu.Lock()
	delete(b.busy, client)
	b.mu.Unlock()
}

// texts returns the text messages of a request.
func texts(body string) (list []string) {
	for rest := body; rest != ""; {
		head, after, _ := strings.Cut(rest, "\r\n")
		kind, size, sized := strings.Cut(head, " ")
		n := 0
		if sized {
			_, _ = fmt.Sscanf(size, "%x", &n)
			n = min(n, len(after))
		}
		if kind == "TEXT" {
			list = append(list, after[:n])
		}
		if rest = after[n:]; sized {
			rest = strings.TrimPrefix(rest, "\r\n")
		}
	}
	return list
}

// take returns the messages of a client and forgets them.
func (b *backendSite) take(client string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.heard[client]
	delete(b.heard, client)
	return list
}
