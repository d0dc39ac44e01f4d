package backplane

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Serve answers the handshake of another node at an endpoint (see [Endpoint]). It returns as soon as the connection
// is accepted or rejected. The caller answers a rejected node with the returned status; 0 means that the request
// has been answered. A node without proof of the secret gets 403 and no further information.
func (b *Backplane) Serve(w http.ResponseWriter, r *http.Request, endpoint Dialect) (refused int) {
	s := b.settings.Load()
	native := (s.Dialect == Auto || s.Dialect == EdgeRelay) && offers(r, subprotocol)
	verify, header := s.Secrets.Verify, r.Header.Get(headerName)
	if native && strings.HasPrefix(header, nativePrefix) {
		verify = s.Secrets.VerifyNative
	}
	_, skew, err := verify(header, time.Now())
	var rejection Rejection
	if err == nil || errors.Is(err, RejectedClock) {
		b.stats.skew.Store(int64(skew))
	}
	switch {
	case errors.As(err, &rejection):
	case r.Header.Get(nodeHeader) == b.id:
		b.stats.reject(RejectedSelf) // harmless: this node is in its own list of peers
		return http.StatusLoopDetected
	case s.Dialect == EdgeRelay && !native:
		rejection = RejectedDialect
	}
	if rejection != "" {
		b.logRejection(r, rejection, skew)
		return http.StatusForbidden
	}
	out := b.newOutbox()
	options := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // origins protect browsers; nodes prove the secret
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     out.acceptsPing,
	}
	if native {
		options.Subprotocols = []string{subprotocol}
		endpoint = EdgeRelay
	}
	conn, err := websocket.Accept(accepting{w, out}, r, options)
	if err != nil {
		return 0 // Accept has answered
	}
	l := b.newLink(conn, out, endpoint)
	l.address, l.skew, l.secure = r.RemoteAddr, skew, r.TLS != nil
	if !b.spawn(func() { b.serveLink(l) }) {
		_ = conn.CloseNow()
	}
	return 0
}

// serveLink serves a node that dialed this node.
func (b *Backplane) serveLink(l *link) {
	defer l.end(nil)
	var err error
	switch l.dialect {
	case EdgeRelay:
		if err = l.acceptHandshake(); err != nil {
			if errors.Is(err, RejectedProof) {
				b.stats.reject(RejectedProof)
				b.log.Warn("node rejected", "address", l.address, "reason", err.Error())
			}
			l.closeWith(websocket.StatusPolicyViolation, "handshake")
			return
		}
		b.log.Info("peer accepted", "peer", l.String(), "dialect", l.dialect, "clock_behind", l.skew)
		b.endBacklog(l.backlogKey())
		b.wakeDialers(l)
		err = l.serveV1()
	case Broadcast:
		b.log.Info("peer accepted", "peer", l.String(), "dialect", l.dialect, "clock_behind", l.skew)
		err = l.serveBroadcast()
	default:
		b.log.Info("peer accepted", "peer", l.String(), "dialect", l.dialect, "clock_behind", l.skew)
		err = l.serveTask()
	}
	if b.ctx.Err() == nil {
		b.log.Info("peer left", "peer", l.String(), "error", err,
			"duration", time.Since(l.began).Round(time.Millisecond))
	}
}

// Endpoint returns the endpoint that a request's path names, after any prefix.
func Endpoint(path string) (endpoint Dialect, ok bool) {
	path = strings.TrimSuffix(path, "/")
	switch {
	case strings.HasSuffix(path, "/websocket/broadcast"):
		return Broadcast, true
	case strings.HasSuffix(path, "/websocket/relay"):
		return Relay, true
	}
	return "", false
}

func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for offered := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(offered), protocol) {
				return true
			}
		}
	}
	return false
}

// rejectionLog limits the log to one line per second and reason.
type rejectionLog struct {
	mu   sync.Mutex
	last map[Rejection]time.Time
}

func (b *Backplane) logRejection(r *http.Request, why Rejection, skew time.Duration) {
	b.stats.reject(why)
	b.rejectionLog.mu.Lock()
	quiet := time.Since(b.rejectionLog.last[why]) < time.Second
	if !quiet {
		b.rejectionLog.last[why] = time.Now()
	}
	b.rejectionLog.mu.Unlock()
	if quiet {
		return
	}
	attrs := []any{"address", r.RemoteAddr, "path", r.URL.Path, "reason", why.Error()}
	if skew != 0 {
		attrs = append(attrs, "clock_behind", skew)
	}
	b.log.Warn("node rejected", attrs...)
}
