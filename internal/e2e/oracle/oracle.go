package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// fate is an emitter's report on an event.
type fate uint8

const (
	unreported fate = iota
	sent
	unsure // the emitter got an error: the event was sent or not
)

// source is an emitter's series of events in a group.
type source struct {
	emitter string
	group   int
}

// Oracle knows the events that were published, and judges the events that clients received. Several goroutines may call
// its methods.
type Oracle struct {
	// Near describes what else happened near a time, for faults; or it is nil. Set it before the first event.
	Near func(time.Time) string

	mu     sync.Mutex
	events map[source][]fate
	faults []string
	total  Tally
}

// Tally counts findings over all clients.
type Tally struct {
	Published, Received, Repeated, Late, Reconnects int
	Recovered, NotRecovered, Gaps, Withheld         int
	FalseAlarms                                     int // recovered: false although nothing was missing
	Reasons                                         map[string]int
	// Doors counts the events received by door.
	Doors map[string]int
}

// New returns an oracle that knows no event.
func New() *Oracle {
	return &Oracle{
		events: map[source][]fate{}, total: Tally{Reasons: map[string]int{}, Doors: map[string]int{}},
	}
}

const maxFaults = 10

// Complain records a fault.
func (o *Oracle) Complain(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fault(time.Now(), format, args...)
}

// fault records a fault of a time. o.mu is held.
func (o *Oracle) fault(at time.Time, format string, args ...any) {
	if len(o.faults) == maxFaults {
		return
	}
	text := at.Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	if o.Near != nil {
		text += "\n\t" + o.Near(at)
	}
	o.faults = append(o.faults, text)
}

// Published records an emitter's report on the event n of its series in a group: ok if the event was certainly sent.
// Without ok, it was sent or not.
func (o *Oracle) Published(emitter string, group, n int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := source{emitter, group}
	for len(o.events[s]) <= n {
		o.events[s] = append(o.events[s], unreported)
	}
	if o.events[s][n] = unsure; ok {
		o.events[s][n] = sent
		o.total.Published++
	}
}

// count changes the tally.
func (o *Oracle) count(change func(*Tally)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.total)
}

// missing returns the events of a series between two numbers that were certainly sent. Reports may be some
// milliseconds late, so it is called at the end only.
func (o *Oracle) missing(s source, from, to int) (list []int) {
	for n := from; n < min(to, len(o.events[s])); n++ {
		if o.events[s][n] == sent {
			list = append(list, n)
		}
	}
	return list
}

// Faults returns the complaints, at most ten.
func (o *Oracle) Faults() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.faults)
}

// Total returns the counts so far.
func (o *Oracle) Total() Tally {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.total
	t.Reasons, t.Doors = maps.Clone(t.Reasons), maps.Clone(t.Doors)
	return t
}

// Report describes the findings.
func (o *Oracle) Report() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var reasons []string
	for reason, n := range o.total.Reasons {
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, n))
	}
	slices.Sort(reasons)
	return fmt.Sprintf("%+v\nreasons: %s", o.total, strings.Join(reasons, ", "))
}

// Behind returns an error if a client still lacks events at the end of a series.
func (o *Oracle) Behind(clients []*Client) error {
	for _, c := range clients {
		c.mu.Lock()
		err := o.lag(c)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// lag is Behind for one client, whose mu is held.
func (o *Oracle) lag(c *Client) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range c.views {
		for emitter, next := range v.next {
			s := source{emitter, v.group}
			if list := o.missing(s, next, len(o.events[s])); len(list) > 0 && !v.loose[emitter] {
				return fmt.Errorf("%s lacks %d events of %s in group %d", c.name, len(list), emitter, v.group)
			}
		}
	}
	return nil
}
