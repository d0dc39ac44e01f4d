package reconcile

import (
	"math/rand/v2"
	"testing"
	"time"
)

// model drives a Set against a destination that loses commands, answers, entries and connections, and holds the Set to
// its promises.
type model struct {
	t           *testing.T
	set         Set[int]
	now         time.Time
	wanted      map[string]bool
	destination map[string]bool
	spoilt      map[string]bool // keys that the destination rejects
	confirmed   map[string]bool // wanted keys that the destination held
	missed      map[string]bool // keys that the destination lost since, unreported
	flight      []Task[int]
	tickets     map[*Ticket[int]]string
}

var modelKeys = []string{"a", "b", "c"}

// step carries out the operation of one byte.
func (m *model) step(b byte) {
	key := modelKeys[int(b>>4)%len(modelKeys)]
	switch b & 15 {
	case 0, 1, 2:
		t := &Ticket[int]{}
		m.set.Want(key, t)
		m.wanted[key] = true
		m.tickets[t] = key
	case 3, 4:
		m.set.Drop(key)
		delete(m.wanted, key)
		delete(m.confirmed, key)
		delete(m.missed, key)
	case 5:
		m.set.Doubt(key)
	case 6: // the destination loses an entry, and notifies unless it is away
		m.lose(key)
		if b>>4 < 8 {
			m.set.Doubt(key)
		}
	case 7:
		m.set.Rewrite()
	case 8: // the connection breaks: the destination executes a part of the commands in flight
		for i, task := range m.flight {
			if i%2 == 0 {
				m.execute(task)
			}
		}
		m.flight = nil
		for _, key := range modelKeys {
			m.lose(key)
		}
		m.set.LoseAll()
	case 9:
		m.spoilt[key] = !m.spoilt[key]
		if m.spoilt[key] {
			m.lose(key)
		}
		m.set.Doubt(key)
	case 10: // executed, and the answer is lost
		if len(m.flight) > 0 {
			m.execute(m.flight[0])
			m.end(Failed)
		}
	case 11: // not executed
		if len(m.flight) > 0 {
			m.end(Failed)
		}
	case 12:
		m.flight = append(m.flight, m.set.Next(1)...)
	default:
		m.answer()
	}
	m.check()
}

// lose takes an entry from the destination.
func (m *model) lose(key string) {
	delete(m.destination, key)
	if m.confirmed[key] {
		m.missed[key] = true
	}
}

// execute applies a command to the destination, and returns its outcome.
func (m *model) execute(task Task[int]) Outcome {
	key := task.Entry.Key
	switch task.Action {
	case Place:
		if m.spoilt[key] {
			return Rejected
		}
		m.destination[key] = true
	case Check, Refresh:
		switch {
		case m.spoilt[key]:
			return Rejected
		case !m.destination[key]:
			return Missing
		}
	case Remove:
		delete(m.destination, key)
	case Examine:
		if m.spoilt[key] {
			return Rejected
		}
	}
	return Done
}

// answer executes and answers the oldest command, or takes one.
func (m *model) answer() {
	if len(m.flight) == 0 {
		m.flight = m.set.Next(2)
	}
	if len(m.flight) > 0 {
		m.end(m.execute(m.flight[0]))
	}
}

func (m *model) end(o Outcome) {
	task := m.flight[0]
	m.flight = m.flight[1:]
	recovery := m.set.End(task, o, errRejected, m.now)
	if recovery == AfterLapse {
		delete(m.missed, task.Entry.Key)
	}
	if task.Entry.InPlace() {
		m.confirmed[task.Entry.Key] = true
	}
}

// check checks the invariants of the Set after a step.
func (m *model) check() {
	lapsed, flying := 0, 0
	for e := range m.set.All {
		if e.wanted != m.wanted[e.Key] {
			m.t.Fatalf("%s: wanted %v, want %v", e.Key, e.wanted, m.wanted[e.Key])
		}
		if action := next(e.phase, e.wanted, e.doubted, e.expiring); action == forget || (action != Nothing) && !e.queued {
			m.t.Fatalf("%s: phase %d needs action %d and is not queued", e.Key, e.phase, action)
		}
		if len(e.waiting) > 0 && e.phase == Placed && e.wanted && !e.doubted {
			m.t.Fatalf("%s: a caller waits for a placed entry", e.Key)
		}
		if e.phase == Faulty && (e.fault.err == nil || !m.set.faulty[e]) {
			m.t.Fatalf("%s: faulty without a fault", e.Key)
		}
		if e.lapsed {
			lapsed++
		}
		if e.phase.InFlight() {
			flying++
		}
	}
	if flying != m.set.flying {
		m.t.Fatalf("%d commands in flight, counted %d", flying, m.set.flying)
	}
	if lapsed != m.set.LapsedCount() {
		m.t.Fatalf("%d lapsed entries, counted %d", lapsed, m.set.LapsedCount())
	}
	for key := range m.wanted {
		if m.set.Get(key) == nil {
			m.t.Fatalf("%s is wanted and forgotten", key)
		}
	}
}

// settle heals the destination and answers every command; then it must hold the wanted entries, and no caller waits.
func (m *model) settle() {
	clear(m.spoilt)
	for range 100 {
		m.now = m.now.Add(faultPauseMax)
		m.set.RetryFaulty(m.now)
		m.set.DoubtAll(true)
		for range 20 {
			m.answer()
		}
		m.check()
	}
	for len(m.flight) > 0 || m.set.Unsettled() > 0 {
		m.answer()
	}
	for _, key := range modelKeys {
		if m.destination[key] != m.wanted[key] {
			m.t.Fatalf("%s: at the destination %v, want %v", key, m.destination[key], m.wanted[key])
		}
	}
	if m.set.Len() != len(m.wanted) || m.set.LapsedCount() != 0 || len(m.set.faulty) != 0 {
		m.t.Fatalf("%d entries, %d lapsed, %d faulty; want %d, 0, 0", m.set.Len(), m.set.LapsedCount(),
			len(m.set.faulty), len(m.wanted))
	}
	for key := range m.missed {
		m.t.Fatalf("%s: the destination lost the entry, and no recovery told", key)
	}
	for t, key := range m.tickets {
		if waits(t) {
			m.t.Fatalf("a caller still waits for %s", key)
		}
	}
}

func runModel(t *testing.T, steps []byte) {
	m := model{
		t: t, now: start, wanted: map[string]bool{}, destination: map[string]bool{},
		spoilt: map[string]bool{}, confirmed: map[string]bool{}, missed: map[string]bool{},
		tickets: map[*Ticket[int]]string{},
	}
	for _, b := range steps {
		m.step(b)
	}
	m.settle()
}

func TestModel(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		steps := make([]byte, r.IntN(200))
		for i := range steps {
			steps[i] = byte(r.Uint32())
		}
		runModel(t, steps)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 12, 13, 3, 12, 8, 0, 13})
	f.Fuzz(func(t *testing.T, steps []byte) { runModel(t, steps[:min(len(steps), 500)]) })
}
