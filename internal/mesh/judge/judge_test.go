package judge

import (
	"fmt"
	"testing"
	"time"
)

// began is the time of event 0; an event follows each second.
var began = time.Unix(1_700_000_000, 0)

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

// run returns a run with two groups and an emitter at node a, one client of node b that subscribes to group 0, and its
// deliveries of the given events at their own times.
func run(events int, deliveries ...int) *Run {
	r := &Run{Groups: 2, Emitters: []Emitter{{Node: "a"}}, Clients: []Client{{Name: "b0", Node: "b", Groups: []int{0}}}}
	for n := range events {
		r.Emitters[0].Emissions = append(r.Emitters[0].Emissions, Emission{At: at(float64(n))})
	}
	c := &r.Clients[0]
	for i, n := range deliveries {
		c.Deliveries = append(c.Deliveries, Delivery{N: n, At: at(float64(max(n, deliveries[max(0, i-1)])))})
	}
	return r
}

func TestJudgeFindsEachFault(t *testing.T) {
	for name, c := range map[string]struct {
		run  func() *Run
		want string
	}{
		"all":        {func() *Run { return run(7, 0, 2, 4, 6) }, "lost 0 doubled 0 reordered 0 untold 0 needless 0 between 0"},
		"one lost":   {func() *Run { return run(7, 0, 2, 6) }, "lost 1 doubled 0 reordered 0 untold 1 needless 0 between 1"},
		"end lost":   {func() *Run { return run(7, 0, 2) }, "lost 2 doubled 0 reordered 0 untold 2 needless 0 between 2"},
		"doubled":    {func() *Run { return run(5, 0, 2, 2, 4) }, "lost 0 doubled 1 reordered 0 untold 0 needless 0 between 0"},
		"reordered":  {func() *Run { return run(5, 0, 4, 2) }, "lost 0 doubled 0 reordered 1 untold 0 needless 0 between 0"},
		"not judged": {func() *Run { r := run(5, 4); r.Emitters[0].From = 3; return r }, "lost 0 doubled 0 reordered 0 untold 0 needless 0 between 0"},
		"unsure": {func() *Run {
			r := run(5, 0, 4)
			r.Emitters[0].Emissions[2].Unsure = true
			return r
		}, "lost 0 doubled 0 reordered 0 untold 0 needless 0 between 0"},
		"told": {func() *Run {
			r := run(7, 0, 6)
			r.Clients[0].Notices = []Notice{{At: at(5)}}
			return r
		}, "lost 2 doubled 0 reordered 0 untold 0 needless 0 between 2"},
		"told before the second loss": {func() *Run {
			r := run(7, 0, 6)
			r.Clients[0].Notices = []Notice{{At: at(3)}}
			return r
		}, "lost 2 doubled 0 reordered 0 untold 1 needless 0 between 2"},
		"told without a loss": {func() *Run {
			r := run(5, 0, 2, 4)
			r.Clients[0].Notices = []Notice{{At: at(3)}}
			return r
		}, "lost 0 doubled 0 reordered 0 untold 0 needless 1 between 0"},
		"another client of the node has it": {func() *Run {
			r := run(5, 0, 4)
			other := run(5, 0, 2, 4).Clients[0]
			r.Clients = append(r.Clients, other)
			return r
		}, "lost 1 doubled 0 reordered 0 untold 1 needless 0 between 0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Judge(c.run())
			got := fmt.Sprintf("lost %d doubled %d reordered %d untold %d needless %d between %d",
				r.Lost, r.Doubled, r.Reordered, r.Untold, r.Needless, r.Between[[2]string{"a", "b"}])
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestJudgeMeasuresTimes(t *testing.T) {
	r := run(11, 0, 2, 10)
	r.Repairs = []time.Time{at(8.5), at(1)} // the second is in a short gap of the series
	r.Clients[0].Notices = []Notice{{At: at(9)}}
	r.Clients[0].Deliveries[1].At = at(2.5)
	got := Judge(r)
	want := "gap 7.5s late 500ms recovered 2 back 1.5s to 1.5s told after 5s"
	text := fmt.Sprintf("gap %v late %v recovered %d back %v to %v told after %v", got.LongestGap, got.Latest,
		got.Recovered, got.FirstBack, got.LastBack, got.ToldAfter)
	if text != want {
		t.Errorf("got %s, want %s", text, want)
	}
}

func TestEventsOfAnAbsenceNeedNoCounter(t *testing.T) {
	for name, c := range map[string]struct {
		absent string
		want   int
	}{
		"sender":   {"a", 1},
		"receiver": {"b", 1},
		"other":    {"c", 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(9, 0, 8)
			r.Absences = []Absence{{c.absent, at(3), at(6)}}
			got := Judge(r)
			if pair := [2]string{"a", "b"}; got.Between[pair] != 3 || got.Accountable[pair] != c.want {
				t.Errorf("got %d and %d accountable, want 3 and %d", got.Between[pair], got.Accountable[pair], c.want)
			}
		})
	}
}

func TestJudgeCountsPerClientAndEmitter(t *testing.T) {
	r := run(7, 0, 2, 4, 6)
	r.Clients = append(r.Clients, run(7, 0).Clients[0])
	r.Clients[1].Closed = []Notice{{Kind: "1008"}}
	got := Judge(r)
	if got.LeastLost != 0 || got.MostLost != 3 || got.MostOf != 4 || got.Lost != 3 || got.Deliveries != 5 || got.Causes()[0] != "1008" {
		t.Errorf("got %+v", got)
	}
}
