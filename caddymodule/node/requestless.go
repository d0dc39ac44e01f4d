package node

import (
	"container/list"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Connections without a complete request hold file descriptors too, for as long as read_header allows, and so do
// keep-alive connections between two requests. When nearly all descriptors are in use, the oldest of these connections
// are closed in favor of new connections.

const (
	// maxEvictions is the number of connections that are closed at once, by the goroutine that accepts.
	maxEvictions = 64
	// minEvictionAge protects a new connection before the first request. An honest handshake is faster.
	minEvictionAge = time.Second
)

// requestlessConns holds the connections without a request under way, of all servers with the relay's handlers: fresh
// connections before their first request, and idle connections between two requests. Each list begins with the oldest.
// See docs/decisions/caddy.md#why-are-connections-without-a-request-closed-when-descriptors-are-scarce
type requestlessConns struct {
	evicted atomic.Uint64

	mu          sync.Mutex
	fresh, idle list.List // of waitingConn
	places      map[net.Conn]listPosition
}

type requestlessConn struct {
	conn  net.Conn
	since time.Time
}

type listPosition struct {
	in *list.List
	at *list.Element
}

// track records the state of a connection. It is a hook for [http.Server.ConnState].
func (w *requestlessConns) track(conn net.Conn, state http.ConnState) {
	if !reflect.ValueOf(conn).Comparable() { // of a listener wrapper
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.places[conn]; ok {
		p.in.Remove(p.at)
		delete(w.places, conn)
	}
	var in *list.List
	switch state {
	case http.StateNew:
		in = &w.fresh
	case http.StateIdle:
		in = &w.idle
	default: // a request is under way, or the connection is no longer the server's
		return
	}
	if w.places == nil {
		w.places = map[net.Conn]listPosition{}
	}
	w.places[conn] = listPosition{in, in.PushBack(requestlessConn{conn, time.Now()})}
}

// closeOldest closes some of the oldest connections and returns their number: first fresh connections older than
// minEvictionAge, then idle ones and, in an emergency, all fresh ones.
func (w *requestlessConns) closeOldest(emergency bool) (closed int) {
	now := time.Now()
	w.mu.Lock()
	want := min(maxEvictions, (w.fresh.Len()+w.idle.Len()+7)/8)
	old := w.removeOldest(nil, want, &w.fresh, now.Add(-minEvictionAge))
	old = w.removeOldest(old, want, &w.idle, now)
	if emergency {
		old = w.removeOldest(old, want, &w.fresh, now)
	}
	w.mu.Unlock()
	for _, conn := range old {
		if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = t.NetConn() // closing the TLS layer would wait for its alert to be sent
		}
		_ = conn.Close()
	}
	w.evicted.Add(uint64(len(old)))
	return len(old)
}

// removeOldest moves the connections of a list that are there since a time or longer to old, until old has want
// connections. The caller holds w.mu.
func (w *requestlessConns) removeOldest(old []net.Conn, want int, from *list.List, since time.Time) []net.Conn {
	for len(old) < want && from.Len() > 0 {
		oldest := from.Front().Value.(requestlessConn)
		if oldest.since.After(since) {
			break
		}
		from.Remove(from.Front())
		delete(w.places, oldest.conn)
		old = append(old, oldest.conn)
	}
	return old
}
