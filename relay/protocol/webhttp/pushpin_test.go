package webhttp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// startRawSite starts a backend that answers OPEN, and whatever else, with a status line of no final response, and
// leaves the connection open.
func startRawSite(t *testing.T, line string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(conn, "HTTP/1.1 "+line+"\r\nContent-Type: text/plain\r\n\r\n")
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// A status that is none of a response, or that would switch protocols, is the backend's fault, and the client gets 502
// at once.
func TestStatusesOfNoResponse(t *testing.T) {
	for _, line := range []string{"042 x", "000 x", "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x"} {
		t.Run(line[:3], func(t *testing.T) {
			e := startEdge(t, startRawSite(t, line), nil)
			begun := time.Now()
			_, resp, err := wstest.Dial(t, e.url+"/", http.Header{})
			if err == nil || resp == nil || resp.StatusCode != http.StatusBadGateway {
				t.Fatalf("%v, %v; want 502", resp, err)
			}
			if took := time.Since(begun); took > soon {
				t.Errorf("the answer took %v", took)
			}
		})
	}
}

// A backend that returns each event, as the example of Pushpin does, returns DISCONNECT as well. That does not take the
// close frame from a client that has not read it yet.
func TestAnswerToDisconnect(t *testing.T) {
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "TEXT") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, r.body)
	}))
	e := startEdge(t, s.URL, nil)
	c, err := wstest.DialWire(t, e.url)
	if err == nil {
		err = c.Shake("/")
	}
	if err == nil {
		err = c.Write(wstest.MaskedFrame(0x81, "x"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if f, err := c.Frame(); err != nil || f.First != 0x88 || string(f.Payload[:2]) != "\x03\xf3" {
		t.Fatalf("frame %x %q, %v; want a close frame with 1011", f.First, f.Payload, err)
	}
	testkit.Eventually(t, "the backend is told", func() bool { return slices.Contains(s.bodies(), "DISCONNECT\r\n") })
	_ = c.Conn.SetReadDeadline(time.Now().Add(testkit.Scale(200 * time.Millisecond)))
	if n, err := c.Conn.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("%d bytes, %v before the client's close frame; want an open connection", n, err)
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// Control messages mean without their optional members what they mean to Pushpin: a delay of a second, and the end of a
// value.
func TestOptionalMembers(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, control(`"type": "send-delayed", "content": "later"`)+
		control(`"type": "send-delayed", "content": "again", "timeout": 0`)+text("m:now"))
	expect(t, c, "later", "now", "again") // the second one makes the first one due
	send(t, c, control(`"type": "set-meta", "name": "user", "value": "ann"`)+
		control(subscribeRoom+`, "filters": ["var-subst"]`)+text("m:set"))
	expect(t, c, "set")
	e.publish(t, `{"channel": "room", "ws-message": {"content": "to %(user)s"}}`)
	expect(t, c, "to ann")
	send(t, c, control(`"type": "set-meta", "name": "user"`)+text("m:removed"))
	expect(t, c, "removed")
	e.publish(t, `{"channel": "room", "ws-message": {"content": "to %(user)s"}}`)
	e.publish(t, `{"channel": "room", "ws-message": {"content": "end"}}`)
	expect(t, c, "end")
}

// A subscription with too many filters closes the connection: without one of them, the client could get what it
// withholds.
func TestTooManyFilters(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, control(subscribeRoom+`, "filters": [`+strings.Repeat(`"var-subst", `, 5)+`"skip-self"]`))
	expectClose(t, c, 1011)
}

// An answer cannot subscribe to any number of channels: the work for each grows with their number.
func TestChannelsOfOneAnswerAreBounded(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, func(_ *webhttp.Settings, l *relay.Limits) { l.GroupsPerConnection = 10 })
	c := e.dial(t, "/")
	change := func(kind string, from, to int) (all string) {
		for i := from; i < to; i++ {
			all += control(fmt.Sprintf(`"type": %q, "channel": "c%d"`, kind, i))
		}
		return all
	}
	send(t, c, change("subscribe", 0, 10)+text("m:full"))
	expect(t, c, "full")
	send(t, c, change("subscribe", 10, 20)+change("unsubscribe", 0, 10)+text("m:replaced"))
	expect(t, c, "replaced")
	send(t, c, change("subscribe", 20, 31)+change("unsubscribe", 10, 31))
	expectClose(t, c, 1011)
}

// The end of a client does not disturb the subscriptions that its backend is just changing.
func TestSubscriptionsAtTheEnd(t *testing.T) {
	many := strings.Repeat(control(subscribeRoom)+control(`"type": "unsubscribe", "channel": "room"`), 200)
	leaving := make(chan *wstest.Raw, 1)
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "TEXT") {
			_, _ = io.WriteString(w, many)
			(<-leaving).Close()
		}
	}))
	e := startEdge(t, s.URL, nil)
	for range 20 {
		raw, err := wstest.DialRaw(e.url+"/", "")
		if err != nil {
			t.Fatal(err)
		}
		leaving <- raw
		if err := raw.Send("x"); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the sessions end", func() bool { return e.Stats.Connections.Load() == 0 })
}
