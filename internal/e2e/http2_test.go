package e2e

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// Caddy waits for handlers before it exits, without a limit if grace_period is not set. WebSockets over HTTP/2 are
// handlers. They must not keep the process, be the clients as silent as they like.
func TestStopWithStreams(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1") // of the relay
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
	persist_config off
	servers {
		protocols h1 h2c
	}
	edgerelay {
		auth jwt {
			key 0123456789abcdef0123456789abcdef
			from message
			first_message_timeout 1m
			allow *
		}
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
	edgerelay {
		route /open/ {
			auth none
			groups open
		}
	}
}
`)
	c, err := wstest.DialHTTP2(t, r.URL)
	if err != nil {
		t.Fatal(err)
	}
	open := func(path string) *wstest.Wire {
		t.Helper()
		w, resp, body, err := c.Connect(path)
		if err != nil || w == nil {
			t.Fatalf("%s: %+v %q, %v", path, resp, body, err)
		}
		return w
	}
	open("/websocket/") // sends no token
	w := open("/open/")
	began := time.Now()
	if err := r.Stop(t, 20*time.Second); err != nil {
		t.Errorf("the relay ended with %v", err)
	}
	t.Logf("stopped after %v", time.Since(began))
	if f, err := w.Frame(); err != nil || f.First != 0x88 || string(f.Payload[:2]) != "\x03\xe9" {
		t.Errorf("%#x %q, %v; want a close frame with 1001", f.First, f.Payload, err)
	}
}
