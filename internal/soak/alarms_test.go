//go:build soak

package soak

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// alarms are the alarms that a function has set. Each fires at least once.
type alarms struct {
	set, fired atomic.Int64

	mu  sync.Mutex
	due map[string]time.Time // acknowledged and not seen yet
}

// alarmDelay is the time until an alarm is due.
const alarmDelay = 2 * time.Second

// add sets an alarm.
func (a *alarms) add(w *roomWriter, n int) {
	name := fmt.Sprint("alarm ", w.name, ".", n)
	err := w.do(map[string]any{"do": "alarm", "key": name, "value": "!", "at": alarmDelay.Milliseconds()})
	if err != nil {
		return // it may fire or not
	}
	a.set.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due == nil {
		a.due = map[string]time.Time{}
	}
	a.due[name+"!"] = time.Now().Add(alarmDelay)
}

// watch counts the alarms that reach a client until the result is closed.
func (a *alarms) watch(s *site) *wstest.Raw {
	raw, err := wstest.DialRaw(s.relay.URL+"/ws/alarms/", "")
	if err != nil {
		s.fault("alarms: %v", err)
		return &wstest.Raw{}
	}
	go func() {
		for {
			text, err := raw.Next(time.Hour)
			if err != nil {
				return
			}
			if strings.HasPrefix(text, "alarm ") {
				a.fired.Add(1)
				a.mu.Lock()
				delete(a.due, text)
				a.mu.Unlock()
			}
		}
	}()
	return raw
}

// lease is the time after which an alarm of a dead node fires elsewhere.
const lease = 30 * time.Second

// excused reports whether a fault explains an alarm that reached no client. Its message is lost with the Redis of the
// channel layer, or with a node that has it in a queue: far sends it over the link.
func (a *alarms) excused(tr *trouble, due time.Time) bool {
	from, to := due.Add(-transit), due.Add(5*time.Second)
	return tr.happened(from, to, storeDown, stateDown, nearDown) ||
		tr.happened(from, to, linkBad) && tr.happened(from, to, farDown)
}

// settle waits for the alarms that are set.
func (a *alarms) settle(s *site) {
	missing := func() map[string]time.Time {
		a.mu.Lock()
		defer a.mu.Unlock()
		list := map[string]time.Time{}
		for name, due := range a.due {
			if !a.excused(s.trouble, due) {
				list[name] = due
			}
		}
		return list
	}
	_ = testkit.Poll(testkit.Scale(lease+15*time.Second), nil, func() error {
		if list := missing(); len(list) > 0 {
			return fmt.Errorf("%d alarms", len(list))
		}
		return nil
	})
	for name, due := range missing() {
		s.faultAt(due, "%s was due, and has not fired", name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = nil
}
