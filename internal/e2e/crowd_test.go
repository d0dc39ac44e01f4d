package e2e

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// crowd is many clients of one group, whose events are {"n": <number>}. They read byte by byte, so that a thousand of
// them leave the machine to the relay.
type crowd struct {
	members []*member
	reading sync.WaitGroup
}

type member struct {
	*attacker
	last atomic.Int64 // the last event's number; -1 before the first

	mu       sync.Mutex
	arrivals []arrival
	ended    error
}

// arrival is one event at one client.
type arrival struct {
	number int
	at     time.Time
}

// gather connects a crowd that subscribes to a group.
func gather(t *testing.T, addr string, size int, group, item string) *crowd {
	t.Helper()
	c := &crowd{members: make([]*member, size)}
	s := &siege{t: t, addr: addr}
	s.many(size, func(i int) error {
		a, err := s.subscribe(group, item)
		if err != nil {
			return err
		}
		c.members[i] = &member{attacker: a}
		c.members[i].last.Store(-1)
		return nil
	})
	if t.Failed() {
		t.FailNow()
	}
	for _, m := range c.members {
		c.reading.Go(m.read)
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			_ = m.Close()
		}
		c.reading.Wait()
	})
	return c
}

// subscribe connects, subscribes to one group and reads the answer.
func (s *siege) subscribe(group, item string) (*attacker, error) {
	a, err := s.shake(masked(0x81, `{"groups": {"`+group+`": ["`+item+`"]}, "xrftoken": "t"}`))
	if err != nil {
		return nil, err
	}
	_ = a.SetDeadline(time.Now().Add(10 * time.Minute))
	answer, err := a.text()
	if err == nil && !bytes.HasPrefix(answer, []byte(`{"groups_current": ["`+group)) {
		err = fmt.Errorf("answered %.200s", answer)
	}
	if err != nil {
		_ = a.Close()
		return nil, err
	}
	return a, nil
}

// text is the next text frame; pings before it are answered.
func (a *attacker) text() ([]byte, error) {
	for {
		first, payload, err := a.next()
		switch {
		case err != nil:
			return nil, err
		case first == 0x81:
			return payload, nil
		case first == 0x89:
			if _, err := io.WriteString(a, masked(0x8a, string(payload))); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("frame %#x: %.100q", first, payload)
		}
	}
}

func (m *member) read() {
	for {
		text, err := m.text()
		number := 0
		if err == nil {
			number, err = strconv.Atoi(string(bytes.TrimSuffix(bytes.TrimPrefix(text, []byte(`{"n": `)), []byte("}"))))
		}
		m.mu.Lock()
		if err != nil {
			m.ended = err
			m.mu.Unlock()
			return
		}
		m.arrivals = append(m.arrivals, arrival{number, time.Now()})
		m.mu.Unlock()
		m.last.Store(int64(number))
	}
}

// reach waits until every client has got an event of that number or a later one.
func (c *crowd) reach(t *testing.T, number int, within time.Duration) {
	t.Helper()
	testkit.EventuallyWithin(t, within, fmt.Sprintf("event %d at every client", number), func() error {
		for i, m := range c.members {
			if last := m.last.Load(); last < int64(number) {
				m.mu.Lock()
				defer m.mu.Unlock()
				return fmt.Errorf("client %d has got %d (ended: %v)", i, last, m.ended)
			}
		}
		return nil
	})
}

// progress is the last event that every client has got.
func (c *crowd) progress() int {
	least := c.members[0].last.Load()
	for _, m := range c.members {
		least = min(least, m.last.Load())
	}
	return int(least)
}

// record returns what has come since the last record, with the time at which the last client got it, and complains
// about clients that were closed, got something twice or out of order, or not what the others got, in another order.
// Where events may come late, behind ones that were sent after them, it returns how many did.
func (c *crowd) record(t *testing.T, mayBeLate bool) (all []arrival, late int) {
	t.Helper()
	bad := 0
	for i, m := range c.members {
		m.mu.Lock()
		got, ended := m.arrivals, m.ended
		m.arrivals = nil
		m.mu.Unlock()
		complain := func(format string, args ...any) {
			if bad++; bad <= 5 {
				t.Errorf("client %d: %s", i, fmt.Sprintf(format, args...))
			}
		}
		if ended != nil {
			complain("ended: %v", ended)
			continue
		}
		behind := 0
		newest, had := -1, map[int]bool{}
		for _, a := range got {
			switch {
			case had[a.number]:
				complain("event %d came twice", a.number)
			case a.number < newest:
				if behind++; !mayBeLate {
					complain("event %d came after %d", a.number, newest)
				}
			}
			had[a.number], newest = true, max(newest, a.number)
		}
		switch {
		case all == nil:
			all, late = slices.Clone(got), behind
		case !slices.EqualFunc(all, got, func(a, b arrival) bool { return a.number == b.number }):
			complain("got %d events, the first client %d, or others", len(got), len(all))
		default:
			for k := range got {
				if got[k].at.After(all[k].at) {
					all[k].at = got[k].at
				}
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d complaints of %d clients", bad, len(c.members))
	}
	return all, late
}
