package hub

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// heardSocket records texts.
type heardSocket struct {
	quietSocket
	texts []string
}

func (s *heardSocket) Send(frames []byte, _ int) bool {
	s.texts = append(s.texts, string(frames[2:])) // short frames
	return true
}

// testProtocol encodes changes.
type testProtocol struct{ encode func(relay.Change) []byte }

func (testProtocol) EndLogin(s relay.Socket) { s.Close(relay.CloseNormal, "") }

func (p testProtocol) EncodeChange(c relay.Change) []byte { return p.encode(c) }

// A recheck ends a subscription between a client's message and the response, which must not list the group.
func TestResponseOmitsRevokedGroups(t *testing.T) {
	h := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer func() { _ = h.Close(t.Context()) }()
	encode := func(c relay.Change) []byte {
		text, err := json.Marshal([][]string{c.Current, c.Left, c.Joined})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	h.SetProtocol(testProtocol{encode})
	socket := &heardSocket{}
	s := h.Open(socket, relay.Identity{ID: "1"}, netip.Addr{})
	defer s.Close()
	change, err := s.Subscribe(t.Context(), relay.Groups("a-1", "b-2"))
	if err != nil {
		t.Fatal(err)
	}
	s.revoke([]string{"b-2", "c-3"})
	s.SendChange(change, encode)
	change, err = s.Subscribe(t.Context(), relay.Groups("a-1", "b-2"))
	if err != nil {
		t.Fatal(err)
	}
	s.SendChange(change, encode)
	if want := []string{
		`[["a-1"],["b-2"],null]`, `[["a-1"],null,["a-1"]]`,
		`[["a-1","b-2"],null,["b-2"]]`,
	}; !slices.Equal(socket.texts, want) {
		t.Errorf("the client got %q, want %q", socket.texts, want)
	}
}

// Each login is rechecked in time, in the order of the last recheck, and evenly: as many per interval as there are
// logins.
func TestRechecksAreSpreadEvenly(t *testing.T) {
	const every = time.Minute
	r := &rechecks{}
	now := time.Now()
	p := pace{last: now}
	last := map[*login]time.Time{}
	begin := now
	checks := 0
	for tick := range 60 * 1000 { // ten minutes
		now = begin.Add(time.Duration(tick) * 10 * time.Millisecond)
		switch {
		case tick < 600 && tick%2 == 0, tick == 30_000: // 300 logins in six seconds, and another later
			s := &Session{identity: relay.Identity{ID: "1"}}
			r.add(s, now)
			last[s.login] = now
		case tick == 36_000: // half of the logins end
			for l := range last {
				if len(last) > 150 {
					r.remove(l.sessions[0])
					delete(last, l)
				}
			}
		}
		due, wait := r.due(&p, now, every, 1000)
		if wait < minRecheckPause || wait > maxRecheckPause {
			t.Fatalf("the scheduler sleeps %v", wait)
		}
		if len(due) > 20 {
			t.Errorf("%d are checked at once", len(due))
		}
		for _, l := range due {
			if age := now.Sub(last[l]); age > every+10*time.Millisecond {
				t.Fatalf("after %v: checked %v after the last check", now.Sub(begin), age)
			}
			last[l] = now
			checks++
			r.finish(l, now, true)
		}
	}
	for l, at := range last {
		if age := now.Sub(at); age > every || l.failed {
			t.Errorf("last checked %v ago", age)
		}
	}
	if most := 6*301 + 4*150 + 310; checks > most {
		t.Errorf("%d checks, want %d at most", checks, most)
	}
}
