package state

import (
	"container/heap"
	"time"
)

// alarm is an alarm in memory.
type alarm struct {
	payload   []byte
	attempts  int
	due       time.Time
	token     string // of the claim; empty: it is not claimed
	claimedAt time.Time
}

func (a *alarm) size(name string) int64 { return int64(len(name) + len(a.payload) + entryOverhead) }

// turn is a time at which an alarm was due. Alarms that were changed since have another time.
type turn struct {
	due  time.Time
	name string
}

// turns is a heap of turns, the earliest first.
type turns []turn

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t turns) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)        { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// delay sets when an alarm is due.
func (p *pluginState) delay(name string, a *alarm, due time.Time) {
	a.due = due
	heap.Push(&p.turns, turn{due, name})
	if len(p.turns) > 2*len(p.alarms)+100 { // mostly outdated ones
		p.turns = p.turns[:0]
		for name, a := range p.alarms {
			p.turns = append(p.turns, turn{a.due, name})
		}
		heap.Init(&p.turns)
	}
}

// first returns the alarm that is due first, nil if there is none.
func (p *pluginState) first() (string, *alarm) {
	for len(p.turns) > 0 {
		t := p.turns[0]
		if a := p.alarms[t.name]; a != nil && a.due.Equal(t.due) {
			return t.name, a
		}
		heap.Pop(&p.turns)
	}
	return "", nil
}

// release ends a claim, and returns for how long the claim's owner may still start.
func (a *alarm) release(now time.Time) time.Duration {
	if a.token == "" {
		return 0
	}
	a.token = ""
	return max(0, min(startWindow, a.claimedAt.Add(startWindow).Sub(now)))
}

// alarm carries out an operation on alarms. The caller holds m.mu.
func (m *memory) alarm(p *pluginState, r *Request) Response {
	now, a := m.now(), p.alarms[r.Key]
	switch r.Op {
	case AlarmSet:
		return m.setAlarm(p, r)
	case AlarmCancel:
		if a == nil {
			return Response{Status: None}
		}
		p.removeAlarm(r.Key)
		return Response{wait: a.release(now)}
	case opClaim:
		return m.claim(p, r)
	}
	if a == nil || a.token != r.token {
		return Response{Status: None}
	}
	switch after := now.Add(time.Duration(r.Delta) * time.Millisecond); r.Op {
	case opRenew:
		p.delay(r.Key, a, after)
	case opFinish:
		p.removeAlarm(r.Key)
	case opRetry:
		a.token, a.attempts = "", a.attempts-r.Limit
		p.delay(r.Key, a, after)
	}
	return Response{}
}

func (p *pluginState) removeAlarm(name string) {
	p.bytes -= p.alarms[name].size(name)
	delete(p.alarms, name)
}

func (m *memory) setAlarm(p *pluginState, r *Request) Response {
	before, after := p.alarms[r.Key], &alarm{payload: r.Value}
	old, size := int64(0), after.size(r.Key)
	if before != nil {
		old = before.size(r.Key)
	}
	if !m.fits(p, old, size, func() bool { return before == nil && int64(len(p.alarms)) >= m.limits().Alarms }) {
		return Response{Status: TooLarge}
	}
	p.alarms[r.Key] = after
	p.delay(r.Key, after, r.At)
	p.bytes += size - old
	if before == nil {
		return Response{}
	}
	return Response{wait: before.release(m.now())}
}

func (m *memory) claim(p *pluginState, r *Request) (res Response) {
	now := m.now()
	lease := now.Add(time.Duration(r.Delta) * time.Millisecond)
	name, a := p.first()
	for a != nil && !a.due.After(now) && len(res.claims) < r.Limit {
		a.attempts++
		res.claims = append(res.claims, claim{name, a.payload, a.attempts, a.token != ""})
		a.token, a.claimedAt = r.token, now
		p.delay(name, a, lease)
		name, a = p.first()
	}
	res.next = -1
	if a != nil {
		res.next = max(0, a.due.Sub(now))
	}
	return res
}
