package webhttp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// The protocol has no notice of dropped events, so a client that leaves too many of them is closed: it never stays
// connected without what it has missed.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, c := range []struct{ name, more string }{
		{"every client gets the same", ""},
		{"clients get their own", `, "meta": {"sender": "another"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSite(t, opens(control(`"type": "subscribe", "channel": "news"`), echo))
			e := startEdge(t, s.URL, func(_ *webhttp.Settings, l *relay.Limits) { l.QueuePerConnection = 64 << 10 })
			client, err := wstest.DialRaw(e.url+"/", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			testkit.Eventually(t, "the subscription", func() bool { return e.hub.Stats().Groups > 0 })
			item := `{"channel": "news", "formats": {"ws-message": {"content": "` + strings.Repeat("x", 50_000) +
				`"}}` + c.more + `}`
			testkit.Eventually(t, "a full queue", func() bool {
				for range 20 {
					e.publish(t, item)
				}
				return e.hub.Stats().Missed > 0
			})
			for {
				_, err := client.Next(soon)
				var closed wstest.ClosedError
				if errors.As(err, &closed) && closed.Code == relay.ClosePolicy {
					break
				}
				if err != nil {
					t.Fatalf("the client has missed events, and its connection ends with %v; want the code %d", err,
						relay.ClosePolicy)
				}
			}
		})
	}
}
