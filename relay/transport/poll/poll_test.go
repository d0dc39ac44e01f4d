package poll

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

func frame(text string) []byte { return relay.AppendFrame(nil, []byte(text)) }

const (
	groups     = `{"groups_current": ["a-b"], "groups_left": [], "groups_joined": ["a-b"]}`
	subscribed = `{"type":"subscribed","group":"a-b","position":"p","recovered":true,"events":0}`
	lost       = `{"type":"subscribed","group":"a-b","recovered":false,"reason":"gap","events":0}`
	off        = `{"type":"subscribed","group":"a-b","recovered":false,"reason":"no_history"}`
	event      = `{"type":"event","group":"a-b","event":1}`
)

// A poll is answered by the first frame that is worth it, and by nothing else before its time.
func TestAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		frames []string
		wait   time.Duration
		soon   bool
	}{
		"an event":       {[]string{groups, subscribed, event}, testkit.Patience, true},
		"a gap":          {[]string{groups, subscribed, `{"type":"gap"}`}, testkit.Patience, true},
		"an error":       {[]string{`{"error": "no"}`}, testkit.Patience, true},
		"not recovered":  {[]string{groups, lost}, testkit.Patience, true},
		"no wait":        {[]string{groups, subscribed}, 0, true},
		"no history":     {[]string{groups, off}, 100 * time.Millisecond, false},
		"nothing new":    {[]string{`{"accept": true}`, groups, subscribed}, 100 * time.Millisecond, false},
		"a first frame":  {[]string{`{"type":"first","text":"x"}`}, 100 * time.Millisecond, false},
		"nothing at all": {nil, 100 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(1 << 20)
			for _, text := range c.frames {
				if !s.Send(frame(text), 0) {
					t.Error("the socket takes no more")
				}
			}
			began := time.Now()
			got := string(s.Wait(context.Background(), c.wait, nil))
			if took := time.Since(began); got != strings.Join(c.frames, ",") || c.soon && took > testkit.Patience/2 || !c.soon && took < c.wait {
				t.Errorf("got %s after %v", got, took)
			}
			if s.Send(frame(event), 0) {
				t.Error("an answered poll takes more")
			}
		})
	}
}

// A poll ends early with its client, with a reload, by a drain, and when its answer is full.
func TestEarlyEnd(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan struct{})
	close(done)
	for name, wait := range map[string]func(s *Socket) []byte{
		"client": func(s *Socket) []byte { return s.Wait(ended, testkit.Patience, nil) },
		"reload": func(s *Socket) []byte { return s.Wait(context.Background(), testkit.Patience, done) },
		"drain": func(s *Socket) []byte {
			s.Close(relay.CloseRestart, "")
			return s.Wait(context.Background(), testkit.Patience, nil)
		},
		"full": func(s *Socket) []byte {
			for s.Send(frame(`{"type":"first","text":"`+strings.Repeat("x", 500)+`"}`), 0) {
			}
			if n, slow := s.Waiting(); n < 1000 || n > 2000 || slow {
				t.Errorf("%d bytes wait, slow %v", n, slow)
			}
			return s.Wait(context.Background(), testkit.Patience, nil)
		},
	} {
		s := New(1000)
		s.Send(frame(subscribed), 0)
		began := time.Now()
		if got := string(wait(s)); !strings.HasPrefix(got, subscribed) || time.Since(began) > testkit.Patience/2 {
			t.Errorf("%s: got %s after %v", name, got, time.Since(began))
		}
	}
}

// A client that does not wait gets its answer as soon as all subscriptions have begun.
func TestSettles(t *testing.T) {
	s := New(0)
	answer := make(chan string, 1)
	go func() { answer <- string(s.Wait(context.Background(), 0, nil)) }()
	s.Expect(2)
	s.SendCopy(frame(subscribed), 0)
	select {
	case got := <-answer:
		t.Fatalf("answered too early: %s", got)
	case <-time.After(20 * time.Millisecond):
	}
	s.SendCopy(frame(subscribed), 0)
	if got := <-answer; got != subscribed+","+subscribed {
		t.Errorf("got %s", got)
	}
}
