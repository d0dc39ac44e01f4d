package backplane_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

var errTooFew = errors.New("too few handshakes")

// rogue is a server that does not know the secret, and keeps the headers that nodes send it.
type rogue struct {
	*httptest.Server
	mu      sync.Mutex
	headers []string
}

// startRogue starts a rogue that takes every websocket if it is open, and answers 403 otherwise.
func startRogue(t *testing.T, open bool) *rogue {
	r := &rogue{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.headers = append(r.headers, req.Header.Get("secret"))
		r.mu.Unlock()
		if !open {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		conn, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		_ = conn.Write(req.Context(), websocket.MessageText, []byte(`{"group": "jobs-summary", "message": "forged"}`))
		_, _, _ = conn.Read(req.Context())
		_ = conn.CloseNow()
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *rogue) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.headers...)
}

// A node that was only found gets nothing that it could use again, and cannot pass for a Python node.
func TestFoundRogueGetsNoHeaderOfUse(t *testing.T) {
	for name, open := range map[string]bool{"refuses": false, "takes everything": true} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			r, n := startRogue(t, open), newNode(t, memory.NewLayer())
			n.start(func(s *backplane.Settings) {
				s.Discoveries = []backplane.Discovery{backplane.Static{{
					URL: r.URL, Dialect: backplane.Auto,
					Found: true,
				}}}
				s.Retry = 10 * time.Millisecond
			})
			c := n.client("jobs-summary")
			testkit.Eventually(t, "three challenges", func() error {
				if len(r.got()) < 3 {
					return errTooFew
				}
				return nil
			})
			for _, header := range r.got() {
				if _, _, err := (backplane.Secrets{secret}).Verify(header, time.Now()); err == nil {
					t.Fatalf("the rogue got %q, which nodes take", header)
				}
				for _, path := range []string{"/websocket/relay/", "/websocket/broadcast/"} {
					if conn, _ := dialAs(t, n, path, header); conn != nil {
						t.Errorf("%q opens %s", header, path)
					}
				}
				conn, _ := dialAs(t, n, "/websocket/relay/", header, "edgerelay.v1")
				if conn == nil {
					t.Fatal("the challenge is not reached")
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_ = conn.Write(ctx, websocket.MessageText,
					[]byte(`{"type": "hello", "node": "rogue", "nonce": "1", "proof": "2"}`))
				for err := error(nil); err == nil; {
					_, _, err = conn.Read(ctx)
				}
				cancel()
			}
			if got := c.count(); got != 0 {
				t.Errorf("the client got %d forged events", got)
			}
		})
	}
}

// A Python node, or an older relay, is sent AWX's header if an operator has named it.
func TestNamedNodeGetsTheHeader(t *testing.T) {
	leakCheck(t)
	r, n := startRogue(t, false), newNode(t, memory.NewLayer())
	n.start(func(s *backplane.Settings) {
		s.Discoveries = []backplane.Discovery{backplane.Static{{URL: r.URL, Dialect: backplane.Auto}}}
		s.Retry = 10 * time.Millisecond
	})
	testkit.Eventually(t, "a valid header after the challenge", func() error {
		for i, header := range r.got() {
			if _, _, err := (backplane.Secrets{secret}).Verify(header, time.Now()); err == nil {
				if i == 0 {
					t.Fatal("the challenge did not come first")
				}
				return nil
			}
		}
		return errTooFew
	})
}
