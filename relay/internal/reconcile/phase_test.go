package reconcile

import "testing"

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name                      string
		phase                     Phase
		wanted, doubted, expiring bool
		want                      Action
	}{
		{"a wanted entry is placed", Absent, true, false, false, Place},
		{"an entry that may be there is placed again", Uncertain, true, false, false, Place},
		{"a placed entry needs nothing", Placed, true, false, false, Nothing},
		{"a doubted entry is checked", Placed, true, true, false, Check},
		{"an expiring entry is refreshed", Placed, true, false, true, Refresh},
		{"an expiring entry is refreshed, which checks it, too", Placed, true, true, true, Refresh},
		{"an expiring entry that vanished is placed", Absent, true, false, true, Place},
		{"a dropped entry is removed, not refreshed", Placed, false, false, true, Remove},
		{"a faulty entry waits", Faulty, true, false, false, Nothing},
		{"a doubted faulty entry is examined", Faulty, true, true, false, Examine},
		{"a dropped entry that was never placed is forgotten", Absent, false, false, false, forget},
		{"a dropped entry is removed", Placed, false, false, false, Remove},
		{"a dropped entry is removed without a check", Placed, false, true, false, Remove},
		{"a dropped entry that may be there is removed", Uncertain, false, false, false, Remove},
		{"one command at a time: place", Placing, false, true, false, Nothing},
		{"one command at a time: check", Checking, false, true, false, Nothing},
		{"one command at a time: refresh", Refreshing, false, true, true, Nothing},
		{"one command at a time: remove", Removing, true, true, false, Nothing},
		{"one command at a time: examine", Examining, false, true, false, Nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := next(c.phase, c.wanted, c.doubted, c.expiring); got != c.want {
				t.Errorf("next(%d, wanted %v, doubted %v, expiring %v) = %d, want %d",
					c.phase, c.wanted, c.doubted, c.expiring, got, c.want)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	outcomes := [...]Outcome{Done, Missing, Failed, Unsent, Unknowable, Rejected}
	for phase, want := range map[Phase][len(outcomes)]Phase{
		//           Done       Missing    Failed     Unsent     Unknowable Rejected
		Placing:    {Placed, Uncertain, Uncertain, Absent, Uncertain, Faulty},
		Checking:   {Placed, Absent, Placed, Placed, Placed, Faulty},
		Refreshing: {Placed, Absent, Placed, Placed, Placed, Faulty},
		Removing:   {Absent, Absent, Uncertain, Uncertain, Absent, Absent},
		Examining:  {Uncertain, Faulty, Faulty, Faulty, Faulty, Faulty},
	} {
		for i, outcome := range outcomes {
			got, repeat := end(phase, outcome)
			if got != want[i] {
				t.Errorf("end(%d, %d) = %d, want %d", phase, outcome, got, want[i])
			}
			again := (phase == Checking || phase == Refreshing || phase == Examining) &&
				(outcome == Failed || outcome == Unsent) ||
				(phase == Checking || phase == Refreshing) && outcome == Unknowable
			if repeat != again {
				t.Errorf("end(%d, %d): repeat %v, want %v", phase, outcome, repeat, again)
			}
		}
	}
}

func TestBegin(t *testing.T) {
	for action, want := range map[Action]Phase{Place: Placing, Check: Checking, Remove: Removing, Examine: Examining} {
		if got := begin(action); got != want || !got.InFlight() {
			t.Errorf("begin(%d) = %d, want %d, in flight", action, got, want)
		}
	}
}
