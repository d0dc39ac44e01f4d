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

// Connections that have sent no whole request take file descriptors, too, for as long as read_header lets them, and so
// do those that are kept alive after one. When nearly all descriptors are in use, the oldest of them make room for new
// connections.

const (
	// evictMost is how many connections make room at once. They are closed by the goroutine that accepts.
	maxEvictions = 64
	// evictAge is how long a connection has for its first request before it may be one of them: an honest handshake
	// takes less.
	minEvictionAge = time.Second
)

// waitingConns are the connections of all servers with our handlers that have no request under way: those that have not
// had one yet, and those that wait for the next. Each list has the oldest first.
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

// track follows the state of a connection. It is a server's ConnState.
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

// makeRoom closes some of the connections that have waited longest, and returns how many: first those without a request
// for a second, then those that are kept alive, and in an emergency those that have just come.
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
			conn = t.NetConn() // closing the TLS layer would wait to say goodbye
		}
		_ = conn.Close()
	}
	w.evicted.Add(uint64(len(old)))
	return len(old)
}

// oldest takes connections that have waited since a time or longer out of a list, until old has as many as are wanted.
// w.mu is held.
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
