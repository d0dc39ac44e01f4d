package hub

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	memorylayer "github.com/edgerelay/edgerelay/relay/layer/memory"
)

// numbered is a format that sends the number of an event behind a letter of its own.
type numbered struct{ letter string }

func (*numbered) EndLogin(relay.Socket)            {}
func (*numbered) EncodeChange(relay.Change) []byte { return nil }
func (f *numbered) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	return fmt.Appendf(dst, "%s %s %s", f.letter, ev.Group, text), relay.TextFrame
}

// replayed is a numbered format for clients that begin with earlier events.
type replayed struct{ *numbered }

func (replayed) EncodeResumed(relay.Resumed) []byte           { return nil }
func (replayed) EncodeGap(relay.Gap) []byte                   { return nil }
func (replayed) EncodeWithheld(string, relay.Position) []byte { return nil }

// frames is a socket that keeps the payloads of short frames.
type frames struct {
	mu   sync.Mutex
	list []string
}

func (s *frames) Send(b []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		n, head := int(b[1]), 2
		if n == 126 {
			n, head = int(binary.BigEndian.Uint16(b[2:])), 4
		}
		s.list = append(s.list, string(b[head:head+n]))
		b = b[head+n:]
	}
	return true
}
func (s *frames) SendCopy(b []byte, limit int) bool { return s.Send(b, limit) }
func (*frames) Ping() bool                          { return true }
func (*frames) Waiting() (int, bool)                { return 0, false }
func (*frames) LastRead() time.Time                 { return time.Now() }
func (*frames) Close(int, string)                   {}
func (*frames) Kill()                               {}

// Clients of several formats come and go while events are published: each client gets the events of its groups in its
// own form, in order and without a hole while it is subscribed. In the end, no audience is left.
func TestFormatsWhileClientsComeAndGo(t *testing.T) {
	h := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	h.SetAuthorizer(relay.Open{}, 0)
	h.ReceiveMessages(true)
	layer := memorylayer.NewLayer()
	if err := h.SetBroker(t.Context(), layer.Broker()); err != nil {
		t.Fatal(err)
	}
	h.SetHistory(ring.New(relay.HistoryPolicy{Rules: []relay.HistoryRule{
		{Pattern: "g*", HistoryLimits: relay.DefaultHistoryLimits},
	}}, time.Now))
	groups := []string{"g0", "g1", "g2"}
	stop := make(chan struct{})
	var publishing, clients sync.WaitGroup
	for _, g := range groups {
		publishing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				h.Deliver([]relay.Event{{Group: g, Type: "t", Text: strconv.AppendInt(nil, int64(n), 10)}})
				if n%64 == 0 {
					time.Sleep(time.Millisecond) // for the clients, on a machine with few cores
				}
			}
		})
	}
	a, b := &numbered{"a"}, &numbered{"b"}
	formats := []relay.Format{a, b, replayed{a}, replayed{b}}
	for i := range 8 {
		clients.Go(func() {
			for round := range 15 {
				format := formats[(i+round)%len(formats)]
				socket := &frames{}
				r, err := h.Admit(netip.Addr{})
				if err == nil {
					err = r.Identify(relay.Identity{ID: "1"})
				}
				if err != nil {
					t.Error(err)
					return
				}
				s := r.OpenAs(socket, format)
				var subs []relay.Subscription
				for _, g := range groups[:1+(i+round)%3] {
					subs = append(subs, relay.Subscription{Group: g, Resume: &relay.Resume{Latest: 400}})
				}
				_, early := format.(replayed)
				if early {
					s.OptIn()
				}
				change, err := s.Subscribe(t.Context(), subs)
				if err != nil {
					t.Error(err)
					return
				}
				s.SendChange(change, func(relay.Change) []byte { return nil })
				for len(socket.texts()) < 50+400*len(subs) {
					time.Sleep(time.Millisecond)
				}
				s.Close()
				want := "a"
				if format == relay.Format(b) || format == relay.Format(replayed{b}) {
					want = "b"
				}
				checkNumbers(t, socket.texts(), want, groups)
			}
		})
	}
	clients.Wait()
	close(stop)
	publishing.Wait()
	if n := h.formatted.Load(); n != 0 {
		t.Errorf("%d audiences are left", n)
	}
	for _, s := range h.shards {
		if len(s.formatted) != 0 {
			t.Errorf("shard %d has %d groups", s.number, len(s.formatted))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (s *frames) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// checkNumbers checks that the numbers of each group follow each other.
func checkNumbers(t *testing.T, texts []string, letter string, groups []string) {
	next := map[string]int{}
	for _, text := range texts {
		f := strings.Fields(text)
		if len(f) != 3 || f[0] != letter || !slices.Contains(groups, f[1]) {
			t.Errorf("frame %q for a client of %s", text, letter)
			return
		}
		n, err := strconv.Atoi(f[2])
		if at, ok := next[f[1]]; err != nil || ok && n != at {
			t.Errorf("%s: got %q, want number %d", letter, text, at)
			return
		}
		next[f[1]] = n + 1
	}
}
