package outgoing

import "testing"

// A client gets one notice for a hole, unless it may have taken the first one before further events were dropped.
func TestNoticeIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []kind
		want   bool
	}{
		{"nothing is queued", nil, false},
		{"events only", []kind{events, events}, false},
		{"a notice behind events", []kind{events, events, notices}, true},
		{"events behind the notice, which are dropped", []kind{events, notices, events}, true},
		{"an answer behind the notice", []kind{events, notices, answers}, false},
		{"the notice is being written", []kind{notices, events}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQueue()
			for _, k := range c.pieces {
				q.add([]byte{0x81, 0}, k)
			}
			q.dropEvents(func([]byte) {})
			if got := q.endsWithNotice(); got != c.want {
				t.Errorf("the queue ends with a notice: %v, want %v", got, c.want)
			}
		})
	}
}
