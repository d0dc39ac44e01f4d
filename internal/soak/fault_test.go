//go:build soak

package soak

import (
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// A lost event is reported with its number, group and time, and with the faults near that time. A fault that may have
// cost the event excuses it.
func TestSoakNamesEventAndCause(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults []kind
		want   []string // parts of the only fault; none: the loss is excused
	}{
		{"without a fault", nil, []string{"the witness of job_events-1: event 1, sent to 3 members, is lost", "no fault near"}},
		{"beside another fault", []kind{linkBad, nearDown}, []string{"event 1,", "faults near", "link ", "near "}},
		{"with Redis", []kind{storeDown}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := &trouble{}
			for _, k := range c.faults {
				tr.begin(k)()
			}
			l := &ledger{group: "job_events-1", near: tr.near}
			for range 3 {
				l.publish(false, func(int) (relay.Receipt, error) { return relay.Receipt{Members: 3}, nil })
			}
			l.arrive(0)
			l.arrive(2)
			a, faults := l.close(func(e fate) bool { return tr.happened(e.at, e.done, storeDown) })
			if a.delivered != 2 || a.unknown != len(faults) || (len(faults) == 0) != (c.want == nil) {
				t.Fatalf("%+v, %q, want %q", a, faults, c.want)
			}
			for _, part := range c.want {
				if !strings.Contains(faults[0], part) {
					t.Errorf("%q, want %q", faults[0], part)
				}
			}
		})
	}
}
