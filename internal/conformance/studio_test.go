package conformance

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// studio sends every client the same buffers, each in the form that the client can decode, as the hub does.
type studio struct {
	*httptest.Server
	script []*deflate.Buffer // nil: a ping
	digest string            // of the texts
	visits sync.Map          // *visit by path
	poller *netpoll.Poller
}

// visit is a connection of a client.
type visit struct {
	offer, answer string
	forms         [relay.FormCount]int
	sent, plain   int // bytes of frames
	received      atomic.Int64
	reports       chan []byte
}

// report is a client's message after the last event. With its padding it is about reportLength bytes long.
type report struct{ Digest, Pad string }

const reportLength = 4096

// line counts the bytes that a client sends.
type line struct {
	net.Conn
	read *atomic.Int64
}

func (l line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.read.Add(int64(n))
	return n, err
}

// counted wraps the connections of a listener.
type counted struct{ net.Listener }

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return line{conn, new(atomic.Int64)}, nil
}

// jobEvent is a text like a job event's: the structure repeats, and the values do not.
func jobEvent(r *rand.Rand, group string, n int) string {
	return fmt.Sprintf(`{"group":%q,"id":%d,"event":"runner_on_ok","uuid":"%x","host":"host-%d.example","stdout":%q,`+
		`"event_data":{"task":"Übersicht %d ✓","play":"site","changed":%t,"duration":%f,"res":{%s}}}`,
		group, n, r.Uint64(), r.IntN(500), strings.Repeat("ok: ", r.IntN(20)), r.IntN(50), r.IntN(2) == 0,
		r.Float64(),
		strings.Repeat(fmt.Sprintf(`"item%d":{"rc":0,"start":"2026-11-29","end":"2026-11-29"},`, r.IntN(9)), 16)+`"n":0`)
}

// write makes the script: events of two groups, short texts, pings, several events at once, and one that is longer than
// any window.
func (s *studio) write() {
	r := rand.New(rand.NewPCG(1, 2))
	const minSize = 512
	c := deflate.New(deflate.Settings{MinSize: minSize, Level: 1})
	defer c.Close()
	digest := sha256.New()
	n := 0
	add := func(group string, texts ...string) {
		var f deflate.Frames
		for _, text := range texts {
			_, _ = io.WriteString(digest, text+"\n")
			f.Bytes = relay.AppendFrame(f.Bytes, []byte(text))
			if len(text) >= minSize {
				f.Count++
				f.Total += len(text)
				f.Longest, f.Last = max(f.Longest, len(text)), []byte(text)
			}
		}
		s.script = append(s.script, c.Buffer(deflate.Key{Group: group}, f))
	}
	next := func(group string) string {
		n++
		return jobEvent(r, group, n)
	}
	for range 60 {
		add("a", next("a"))
		if n%3 == 0 {
			s.script = append(s.script, nil)
		}
	}
	for range 6 {
		add("b", next("b"))
		add("a", next("a"), "short", next("a"), next("a"))
		s.script = append(s.script, nil)
	}
	noise := make([]byte, 17<<10) // 34 KiB in hexadecimal digits, longer than the window
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	add("a", hex.EncodeToString(noise)+next("a"))
	for range 10 {
		add("a", next("a"))
	}
	s.digest = hex.EncodeToString(digest.Sum(nil))
}

//go:embed testdata/clients/page.html
var page []byte

// newStudio starts a server. A path names a visit; /page/<path> is a page that opens a WebSocket at the path.
func newStudio(t *testing.T) *studio {
	s := &studio{poller: netpoll.New()}
	s.write()
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Listener = counted{s.Listener}
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, line{}, c)
	}
	s.Start()
	t.Cleanup(func() {
		s.Server.Close()
		s.poller.Close()
	})
	return s
}

func (s *studio) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/page/") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
		return
	}
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		http.Error(w, reason, status)
		return
	}
	v := s.visit(r.URL.Path)
	conn, err := ws.Accept(w, r, ws.Options{
		Poller: s.poller, MessageLimit: func() int { return 2 * reportLength }, Deflate: true,
	})
	if err != nil {
		return
	}
	v.offer = strings.Join(r.Header.Values("Sec-WebSocket-Extensions"), ", ")
	v.answer = w.Header().Get("Sec-WebSocket-Extensions")
	before := r.Context().Value(line{}).(line).read.Load()
	conn.Attend(guest{v, func() { v.received.Store(r.Context().Value(line{}).(line).read.Load() - before) }})
	for _, b := range s.script {
		if b == nil {
			conn.Ping()
			continue
		}
		form := relay.Plain
		if conn.Deflates() {
			form = conn.Choose(&b.Compressed)
		}
		v.forms[form]++
		v.sent, v.plain = v.sent+len(b.Frames(form)), v.plain+len(b.Frames(relay.Plain))
		conn.Send(b.Frames(form), 0)
	}
	conn.Send(relay.AppendFrame(nil, []byte("end")), 0)
}

func (s *studio) visit(path string) *visit {
	v, _ := s.visits.LoadOrStore(path, &visit{reports: make(chan []byte, 1)})
	return v.(*visit)
}

// guest receives a client's report.
type guest struct {
	*visit
	count func()
}

func (g guest) Message(_ bool, message []byte) {
	g.count()
	g.reports <- message
}

func (g guest) Ended() {}

// expect waits for the report of a visit, and logs a row of the table in docs/compression.md. If ended is closed first,
// the client has failed.
func (s *studio) expect(t *testing.T, path string, limit time.Duration, ended <-chan struct{}) *visit {
	t.Helper()
	v := s.visit(path)
	select {
	case <-ended:
		t.Fatalf("the client has ended; offer %q, answer %q", v.offer, v.answer)
	case message := <-v.reports:
		var r report
		if err := json.Unmarshal(message, &r); err != nil || r.Digest != s.digest {
			t.Fatalf("the client reports %.100q, %v; want the digest %s", message, err, s.digest)
		}
	case <-time.After(limit):
		t.Fatalf("no report; offer %q, answer %q", v.offer, v.answer)
	}
	t.Logf("| `%s` | `%s` | chained %d, alone %d, each %d, plain %d | %.0f %% | %d |", v.offer, v.answer,
		v.forms[relay.Chained], v.forms[relay.Alone], v.forms[relay.Each], v.forms[relay.Plain],
		100*float64(v.sent)/float64(v.plain), v.received.Load())
	return v
}

// compresses expects a client that gets and sends compressed messages.
func compresses(t *testing.T, v *visit) {
	t.Helper()
	if v.forms[relay.Chained] < 20 || v.forms[relay.Alone] < 5 || v.received.Load() > reportLength/4 {
		t.Errorf("offer %q, answer %q: forms %v, a report of %d bytes", v.offer, v.answer, v.forms, v.received.Load())
	}
}

// reportOn returns a report about texts.
func reportOn(texts []string) []byte {
	digest := sha256.Sum256([]byte(strings.Join(texts, "\n") + "\n"))
	b, _ := json.Marshal(report{hex.EncodeToString(digest[:]), strings.Repeat("pad ", reportLength/4)})
	return b
}

// url is the address of a visit.
func (s *studio) url(path string) string { return "ws" + strings.TrimPrefix(s.URL, "http") + path }
