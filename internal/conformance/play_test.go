package conformance

import (
	be "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// First bytes of frames.
const (
	text    = 0x81
	binary  = 0x82
	closing = 0x88
	ping    = 0x89
	pong    = 0x8a
	// Without FIN.
	textBegin, binaryBegin, more = 0x01, 0x02, 0x00
	last                         = 0x80 // the last continuation
)

// limit is the frame_size of the relay under test.
const limit = 128 << 10

// Answers of the relay to messages that are no subscriptions.
const (
	notJSON = `{"error": "a message must be a JSON object"}`
	notText = `{"error": "a message must be a text frame"}`
)

// session is one websocket of a case.
type session struct {
	*wstest.Wire
	relay *peers.Relay
}

// step is one thing that a case does or expects.
type step func(s *session) error

// testCase is one row of the suite.
type testCase struct {
	number, name string
	steps        []step
}

// do collects steps.
func do(steps ...step) []step { return steps }

// send sends bytes, such as frames, in one piece.
func send(parts ...string) step {
	return func(s *session) error { return s.Write(strings.Join(parts, "")) }
}

// chop sends bytes in pieces of n.
func chop(n int, parts ...string) step {
	return func(s *session) error { return s.Chop(strings.Join(parts, ""), n) }
}

// frame is a masked frame.
func frame(first byte, payload string) string { return wstest.MaskedFrame(first, payload) }

// next reads a frame that is not a ping of the server's.
func (s *session) next() (wstest.Frame, error) {
	for {
		f, err := s.Frame()
		if err != nil || f.First != ping {
			return f, err
		}
	}
}

// want expects a frame.
func want(first byte, payload string) step {
	return func(s *session) error {
		f, err := s.next()
		if err != nil {
			return fmt.Errorf("%w instead of %#x %.60q", err, first, payload)
		}
		if f.First != first || string(f.Payload) != payload {
			return fmt.Errorf("%#x %.200q, want %#x %.60q", f.First, f.Payload, first, payload)
		}
		return nil
	}
}

// wantClose expects a close frame with a code (0: none), answers it, and expects the server to end the connection.
func wantClose(code int) step {
	return func(s *session) error {
		f, err := s.next()
		if err != nil {
			return fmt.Errorf("%w instead of a close with %d", err, code)
		}
		got := 0
		if len(f.Payload) >= 2 {
			got = int(be.BigEndian.Uint16(f.Payload))
		}
		if f.First != closing || got != code {
			return fmt.Errorf("%#x %.200q, want a close with %d", f.First, f.Payload, code)
		}
		_ = s.Write(frame(closing, string(f.Payload[:min(2, len(f.Payload))]))) // it may be closed already
		return wantEnd(s)
	}
}

// wantEnd expects the end of the connection, and no frame before it.
func wantEnd(s *session) error {
	f, err := s.next()
	var timeout net.Error
	switch {
	case err == nil:
		return fmt.Errorf("%#x %.200q after the end", f.First, f.Payload)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the connection goes on")
	}
	return nil // in order or by a reset: the rest of what was sent is not read
}

// subscription is a message of exactly size bytes that joins one group.
func subscription(size int) string {
	const head, tail = `{"groups": {"echo": ["1"]}, "xrftoken": "t", "pad": "`, `"}`
	return head + strings.Repeat("p", size-len(head)-len(tail)) + tail
}

// joined is the answer to a subscription.
var joined = want(text, `{"groups_current": ["echo-1"], "groups_left": [], "groups_joined": ["echo-1"]}`)

// alive sends a message and expects its answer: what was sent before changed nothing.
var alive = func(s *session) error {
	if err := s.Write(frame(text, "alive")); err != nil {
		return err
	}
	return want(text, notJSON)(s)
}

// told expects an error of the relay's with part in it.
func told(part string) step {
	return func(s *session) error {
		f, err := s.next()
		if err != nil {
			return err
		}
		var answer struct{ Error string }
		if err := json.Unmarshal(f.Payload, &answer); err != nil || !strings.Contains(answer.Error, part) {
			return fmt.Errorf("%#x %.200q, want an error about %q", f.First, f.Payload, part)
		}
		return nil
	}
}

// event subscribes, publishes a text of size bytes and expects it in one frame.
func event(size int) step {
	return func(s *session) error {
		group := fmt.Sprint("size-", size)
		if err := s.Write(frame(text, fmt.Sprintf(`{"groups": {"size": [%d]}, "xrftoken": "t"}`, size))); err != nil {
			return err
		}
		if err := want(text, fmt.Sprintf(`{"groups_current": [%q], "groups_left": [], "groups_joined": [%q]}`, group,
			group))(s); err != nil {
			return err
		}
		data := `"` + strings.Repeat("e", size-2) + `"`
		if err := s.publish(group, data); err != nil {
			return err
		}
		return want(text, data)(s)
	}
}

// publish publishes an event.
func (s *session) publish(group, data string) error {
	resp, err := http.Post(s.relay.Admin+"/edgerelay/publish", "application/json",
		strings.NewReader(fmt.Sprintf(`{"group": %q, "data": %s}`, group, data)))
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

// shakesItself reports whether the cases of a category begin with a handshake of their own.
func shakesItself(number string) bool {
	category, _, _ := strings.Cut(number, ".")
	return category == "10" || category == "12" || category == "13"
}

const greeting = `{"accept": true, "user": 1}`

func TestConformance(t *testing.T) {
	t.Setenv("GODEBUG", "http2xconnect=1") // of the relay
	secure := fmt.Sprint("https://localhost:", testkit.FreePort(t))
	relay := peers.StartRelay(t, fmt.Sprintf(`{
	admin {$ADMIN}
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	edgerelay {
		auth none
		limits {
			frame_size %d
			subscribe_rate 0
			connections_per_user 0
			ping 1s
			silence 1m
		}
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
}
%s {
	bind 127.0.0.1
	tls internal
	edgerelay
}
`, limit, secure))
	for _, door := range []struct{ name, url string }{{"http", relay.URL}, {"https", secure}, {overHTTP2, secure}} {
		url := door.url
		t.Run(door.name, func(t *testing.T) {
			testkit.Eventually(t, "the site answers", func() error {
				w, err := wstest.DialWire(t, url)
				if err == nil {
					err = w.Close()
				}
				return err
			})
			numbers := map[string]bool{}
			for _, c := range cases {
				if numbers[c.number] {
					t.Errorf("there are two cases %s", c.number)
				}
				numbers[c.number] = true
				if door.name == overHTTP2 && shakesItself(c.number) {
					continue // the cases of relay/transport/ws and caddymodule
				}
				t.Run(c.number+" "+c.name, func(t *testing.T) {
					t.Parallel()
					s := &session{dial(t, url, door.name == overHTTP2), relay}
					steps := c.steps
					if !shakesItself(c.number) {
						if door.name != overHTTP2 {
							if err := s.Shake("/websocket/", "Cookie: csrftoken=t"); err != nil {
								t.Fatal(err)
							}
						}
						steps = append(do(want(text, greeting)), steps...)
					}
					for i, step := range steps {
						if err := step(s); err != nil {
							t.Fatalf("step %d: %v", i, err)
						}
					}
				})
			}
		})
	}
}

// overHTTP2 is the name of the door of streams of HTTP/2.
const overHTTP2 = "h2"

// dial connects to the relay. Over HTTP/2, the WebSocket is open.
func dial(t *testing.T, url string, overHTTP2 bool) *wstest.Wire {
	t.Helper()
	if !overHTTP2 {
		w, err := wstest.DialWire(t, url)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	c, err := wstest.DialHTTP2(t, url)
	if err != nil {
		t.Fatal(err)
	}
	w, resp, body, err := c.Connect("/websocket/", "Cookie: csrftoken=t")
	if err != nil || w == nil {
		t.Fatalf("%+v %q, %v", resp, body, err)
	}
	return w
}
