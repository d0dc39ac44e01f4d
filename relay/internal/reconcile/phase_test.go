package reconcile

import "testing"

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name            string
		phase           Phase
		wanted, doubted bool
		want            Action
	}{
		{"a wanted entry is placed", Absent, true, false, Place},
		{"an entry that may be there is placed again", Uncertain, true, false, Place},
		{"a placed entry needs nothing", Placed, true, false, Nothing},
		{"a doubted entry is checked", Placed, true, true, Check},
		{"a faulty entry waits", Faulty, true, false, Nothing},
		{"a doubted faulty entry is examined", Faulty, true, true, Examine},
		{"a dropped entry that was never placed is forgotten", Absent, false, false, forget},
		{"a dropped entry is removed", Placed, false, false, Remove},
		{"a dropped entry is removed without a check", Placed, false, true, Remove},
		{"a dropped entry that may be there is removed", Uncertain, false, false, Remove},
		{"one command at a time: place", Placing, false, true, Nothing},
		{"one command at a time: check", Checking, false, true, Nothing},
		{"one command at a time: remove", Removing, true, true, Nothing},
		{"one command at a time: examine", Examining, false, true, Nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := next(c.phase, c.wanted, c.doubted); got != c.want {
				t.Errorf("next(%d, wanted %v, doubted %v) = %d, want %d", c.phase, c.wanted, c.doubted, got, c.want)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	outcomes := [...]Outcome{Done, Missing, Failed, Unsent, Unknowable, Rejected}
	for phase, want := range map[Phase][len(outcomes)]Phase{
		//          Done       Missing    Failed     Unsent     Unknowable Rejected
		Placing:   {Placed, Uncertain, Uncertain, Absent, Uncertain, Faulty},
		Checking:  {Placed, Absent, Placed, Placed, Uncertain, Faulty},
		Removing:  {Absent, Absent, Uncertain, Uncertain, Absent, Absent},
		Examining: {Uncertain, Faulty, Faulty, Faulty, Faulty, Faulty},
	} {
		for i, outcome := range outcomes {
			got, repeat := end(phase, outcome)
			if got != want[i] {
				t.Errorf("end(%d, %d) = %d, want %d", phase, outcome, got, want[i])
			}
			again := (phase == Checking || phase == Examining) && (outcome == Failed || outcome == Unsent)
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
