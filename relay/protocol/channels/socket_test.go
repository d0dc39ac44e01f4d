package channels

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// kinds is a connection that notes which frames may be dropped.
type kinds struct {
	relay.Socket
	got []string
}

func (k *kinds) Send(frames []byte, _ int) bool { return k.note("event", frames) }

func (k *kinds) SendAnswer(frames []byte, _ int) bool { return k.note("answer", frames) }

func (k *kinds) SendNotice(frames []byte) bool { return k.note("notice", frames) }

func (k *kinds) DropEvents(int, time.Duration) (relay.Dropped, bool) { return relay.Dropped{}, true }

func (k *kinds) note(kind string, frames []byte) bool {
	k.got = append(k.got, fmt.Sprintf("%s %s", kind, frames))
	return true
}

// Answers that were kept back stay answers: a full queue does not drop them.
func TestHeldAnswersStayAnswers(t *testing.T) {
	s, conn := NewSocket(false), &kinds{}
	s.Send([]byte("1"), 100)
	s.SendAnswer([]byte("2"), 100)
	borrowed := []byte("3")
	s.SendCopy(borrowed, 100)
	borrowed[0] = 'x'
	s.Bind(conn)
	s.Release()
	s.SendAnswer([]byte("4"), 100)
	s.Send([]byte("5"), 100)
	if want := []string{"event 1", "answer 2", "event 3", "answer 4", "event 5"}; !slices.Equal(conn.got, want) {
		t.Errorf("%q, want %q", conn.got, want)
	}
}

// All bytes that a socket keeps back count as waiting, for queue_total and for a shortage of memory, also those that do
// not count against the client's limit.
func TestHeldFramesWithoutALimitWait(t *testing.T) {
	s := NewSocket(false)
	s.Send([]byte("12345"), 0)
	if n, _ := s.Waiting(); n != 5 {
		t.Errorf("%d bytes wait, want 5", n)
	}
	if !s.Send([]byte("67"), 2) {
		t.Error("a frame without a limit counts against the limit")
	}
	if n, _ := s.Waiting(); n != 7 {
		t.Errorf("%d bytes wait, want 7", n)
	}
	if s.Send([]byte("8"), 2) {
		t.Error("more bytes than the limit are kept back")
	}
}
