package state

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"sync"
	"time"
)

// memory keeps the state of plugins in this process. It has the behavior of the script in Redis.
type memory struct {
	limits func() *Limits
	now    func() time.Time

	mu       sync.Mutex // guards the fields below
	plugins  map[string]*pluginState
	answers  []func() // to call in order, by the goroutine in deliver
	delivers bool
	closed   bool
}

type pluginState struct {
	bytes  int64
	values map[string]*entry
	alarms map[string]*alarm
	turns  turns // of the alarms
	// expiring has the keys with an end; the map's order makes the search for expired ones fair.
	expiring map[string]time.Time
}

type entry struct {
	text string
	list []string // nil: text is the value
	size int64
}

func newMemory(limits func() *Limits, now func() time.Time) *memory {
	return &memory{limits: limits, now: now, plugins: map[string]*pluginState{}}
}

func (m *memory) trouble() string { return "" }

func (m *memory) start(r *Request, done func(Response)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := Response{Status: Unavailable}
	if !m.closed {
		res = m.carryOut(r)
	}
	m.answers = append(m.answers, func() { done(res) })
	if !m.delivers {
		m.delivers = true
		go m.deliver()
	}
}

// deliver calls the answers in order, and ends when there are none.
func (m *memory) deliver() {
	for {
		m.mu.Lock()
		answers := m.answers
		m.answers = nil
		m.delivers = len(answers) > 0
		m.mu.Unlock()
		if len(answers) == 0 {
			return
		}
		for _, answer := range answers {
			answer()
		}
	}
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

// carryOut carries out a request. The caller holds m.mu.
func (m *memory) carryOut(r *Request) Response {
	p := m.plugins[r.Plugin]
	if p == nil {
		p = &pluginState{values: map[string]*entry{}, alarms: map[string]*alarm{}, expiring: map[string]time.Time{}}
		m.plugins[r.Plugin] = p
	}
	if end, ok := p.expiring[r.Key]; ok && m.now().After(end) {
		p.remove(r.Key)
	}
	switch r.Op {
	case Get:
		return p.get(r.Key)
	case Set:
		return m.set(p, r, string(r.Value))
	case Swap:
		res := p.get(r.Key)
		switch {
		case res.Status == Invalid:
			return res
		case !bytes.Equal(res.Body, r.Expected):
			res.Status = Conflict
			return res
		}
		return m.set(p, r, string(r.Value))
	case Add:
		return m.add(p, r)
	case Push:
		return m.push(p, r)
	case List:
		return p.list(r.Key, r.Limit)
	case opUsage:
		m.reap(p)
		return Response{usage: Usage{p.bytes, int64(len(p.values)), int64(len(p.alarms))}}
	}
	return m.alarm(p, r)
}

func (p *pluginState) remove(key string) {
	if e := p.values[key]; e != nil {
		p.bytes -= e.size
		delete(p.values, key)
		delete(p.expiring, key)
	}
}

// reap removes expired values.
func (m *memory) reap(p *pluginState) {
	for key, end := range p.expiring {
		if m.now().After(end) {
			p.remove(key)
		}
	}
}

func (p *pluginState) get(key string) Response {
	e := p.values[key]
	switch {
	case e == nil:
		return Response{Status: None}
	case e.list != nil:
		return Response{Status: Invalid}
	}
	return Response{Body: []byte(e.text)}
}

// fits reports whether an entry may grow from old to size bytes while the number of entries grows from count by more.
func (m *memory) fits(p *pluginState, old, size int64, isFull func() bool) bool {
	full := func() bool { return size > old && (p.bytes-old+size > m.limits().Bytes || isFull()) }
	if full() {
		m.reap(p)
	}
	return !full()
}

// put stores an entry if there is room.
func (m *memory) put(p *pluginState, r *Request, e *entry) bool {
	old, isNew := int64(0), true
	if before := p.values[r.Key]; before != nil {
		old, isNew = before.size, false
	}
	if !m.fits(p, old, e.size, func() bool { return isNew && int64(len(p.values)) >= m.limits().Keys }) {
		return false
	}
	p.values[r.Key] = e
	p.bytes += e.size - old
	delete(p.expiring, r.Key)
	if r.TTL > 0 {
		p.expiring[r.Key] = m.now().Add(time.Duration(millis(r.TTL)) * time.Millisecond)
	}
	return true
}

func (m *memory) set(p *pluginState, r *Request, value string) Response {
	if value == "" {
		p.remove(r.Key)
		return Response{}
	}
	if !m.put(p, r, &entry{text: value, size: int64(len(r.Key) + len(value) + entryOverhead)}) {
		return Response{Status: TooLarge}
	}
	return Response{}
}

func (m *memory) add(p *pluginState, r *Request) Response {
	e := p.values[r.Key]
	if e == nil {
		text := strconv.FormatInt(r.Delta, 10)
		res := m.set(p, r, text)
		if res.Status == OK {
			res.Body = []byte(text)
		}
		return res
	}
	n, err := strconv.ParseInt(e.text, 10, 64)
	sum := n + r.Delta
	// Redis takes a number in its shortest form only, and no overflow.
	if err != nil || e.list != nil || strconv.FormatInt(n, 10) != e.text || (sum > n) != (r.Delta > 0) {
		return Response{Status: Invalid}
	}
	e.text = strconv.FormatInt(sum, 10)
	size := int64(len(r.Key) + len(e.text) + entryOverhead)
	p.bytes += size - e.size
	e.size = size
	return Response{Body: []byte(e.text)}
}

func (m *memory) push(p *pluginState, r *Request) Response {
	var list []string
	if before := p.values[r.Key]; before != nil {
		if before.list == nil {
			return Response{Status: Invalid}
		}
		list = before.list
	}
	list = append(list[max(0, len(list)+1-r.Limit):len(list):len(list)], string(r.Value))
	elements := 0
	for _, e := range list {
		elements += len(e) + elementOverhead
	}
	e := &entry{list: list, size: int64(len(r.Key) + elements + entryOverhead)}
	if elements > maxList || !m.put(p, r, e) {
		return Response{Status: TooLarge}
	}
	return Response{}
}

func (p *pluginState) list(key string, limit int) Response {
	e := p.values[key]
	switch {
	case e == nil:
		return Response{Status: None, Body: encodeList(nil)}
	case e.list == nil:
		return Response{Status: Invalid}
	}
	return Response{Body: encodeList(e.list[max(0, len(e.list)-limit):])}
}

// newToken returns a text that no other claim has.
func newToken() string { return rand.Text() }
