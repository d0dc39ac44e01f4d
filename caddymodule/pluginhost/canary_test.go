package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// TestCanaryRecordTransitions covers every phase of a canary with every change.
func TestCanaryRecordTransitions(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	in := func(p CanaryPhase) canaryRecord { return canaryRecord{Share: 0.1, Phase: p} }
	ended := func(p CanaryPhase) canaryRecord {
		return canaryRecord{Share: 0.1, Phase: p, Ended: at, EndedBy: "alice", Reason: "why", Node: "n"}
	}
	resized := in(CanaryRunning)
	resized.Share = 0.5
	running := map[canaryEvent]canaryRecord{
		canaryResized: resized, canaryAccepted: ended(CanaryPromoted), canaryTakenBack: ended(CanaryReturned),
		canaryOverridden: ended(CanaryReplaced),
	}
	for event, want := range running {
		change := canaryChange{event: event, share: 0.5, at: at, by: "alice", why: "why", onNode: "n"}
		for _, phase := range []CanaryPhase{CanaryRunning, CanaryPromoted, CanaryReturned, CanaryReplaced} {
			before := in(phase)
			after, err := before.next(change)
			if phase != CanaryRunning {
				if after != before || !errors.Is(err, ErrNoCanary) {
					t.Errorf("%s, event %d: becomes %+v, %v", phase, event, after, err)
				}
			} else if after != want || err != nil {
				t.Errorf("%s, event %d: becomes %+v, %v; want %+v", phase, event, after, err, want)
			}
		}
	}
}

// actorModule is a module that fails events with {"do":"error"}; the modules of [module] pass them.
func actorModule(t testing.TB) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "actor.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// newCanarySites returns nodes with a storage in common, which run a module.
func newCanarySites(t *testing.T, n int, stable []byte) []*site {
	t.Helper()
	sites := make([]*site, n)
	for i := range sites {
		sites[i] = newSite(t)
		sites[i].storage = sites[0].storage
		sites[i].plugin.Groups = []string{"*"}
		sites[i].plugin.Grants = []string{"emit", "metrics", "kv", "clock", "shared", "alarms"}
		sites[i].plugin.Fetch = &Fetch{Addresses: []string{"https://example.com"}}
		sites[i].write(stable)
		sites[i].start()
	}
	return sites
}

// fails sends an event to a group and reports whether the module that decides fails on it.
func (s *site) fails(group string) bool {
	_, withheld := s.Pipeline.Run(plugins.Event{Group: group, Payload: []byte(`{"do":"error"}`)}, nil)
	return withheld
}

// candidateGroup returns a group for which the candidate decides.
func (s *site) candidateGroup() string {
	s.t.Helper()
	for i := range 1000 {
		if group := fmt.Sprint("g-", i); s.fails(group) {
			return group
		}
	}
	s.t.Fatal("no group has the candidate")
	return ""
}

// failing returns of which groups of g-0 to g-99 the module fails.
func (s *site) failing() (groups []int) {
	for i := range 100 {
		if s.fails(fmt.Sprint("g-", i)) {
			groups = append(groups, i)
		}
	}
	return groups
}

func (s *site) canary() *CanaryStatus { return s.status().Canary }

var lenient = plugins.CanaryLimits{MaxErrors: 1}

// TestCanaryOnAllNodes: all nodes run the candidate for the same groups, also one that joins and one that starts again.
func TestCanaryOnAllNodes(t *testing.T) {
	ctx := context.Background()
	one := module(t, "one1")
	sites := newCanarySites(t, 2, one)
	a, b := sites[0], sites[1]
	settings := CanarySettings{Share: 0.2, CanaryLimits: lenient}
	if err := a.DeployCanary(ctx, "p", actorModule(t), Change{By: "alice", Message: "try it"}, settings); err != nil {
		t.Fatal(err)
	}
	want := a.failing()
	if len(want) < 4 || len(want) > 45 { // Chance exceeds these bounds once in a million runs.
		t.Errorf("the candidate decides for %d of 100 groups, want about 20", len(want))
	}
	same := func(s *site, what string) {
		t.Helper()
		if got := s.failing(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s, the candidate decides for %v, want %v", what, got, want)
		}
		if c := s.canary(); c == nil || c.Phase != CanaryRunning || !c.Here || c.By != "alice" || c.Message != "try it" {
			t.Errorf("%s, the canary is %+v", what, c)
		}
		s.runs(one, FromFile, 0)
	}
	same(a, "where it was deployed")
	b.follows()
	same(b, "on the other node")
	b.start()
	b.follows()
	same(b, "after a restart")
	c := newSite(t)
	c.storage, c.plugin = a.storage, a.plugin
	c.plugin.File = c.file
	c.write(one)
	c.start()
	c.follows()
	same(c, "on a new node")
	if err := a.DeployCanary(ctx, "p", module(t, "two2"), Change{}, settings); !errors.Is(err, ErrCanaryRuns) {
		t.Errorf("a second canary: %v", err)
	}
	if err := b.ResizeCanary(ctx, "p", 0.6, Change{}); err != nil {
		t.Fatal(err)
	}
	small := want
	want = b.failing()
	for _, group := range small {
		if !strings.Contains(fmt.Sprint(want), fmt.Sprint(group)) {
			t.Errorf("group %d has left the candidate", group)
		}
	}
	a.follows()
	same(a, "with a larger share")
	if err := a.reload(func(p *Plugin) { p.KV = 2 << 20 }); err != nil {
		t.Fatal(err)
	}
	a.follows()
	same(a, "after a reload with other settings")
	if err := c.Rollback(ctx, "p", Change{By: "bob"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*site{c, a, b} {
		s.follows()
		if got := s.failing(); len(got) != 0 {
			t.Errorf("after the rollback, the candidate decides for %v", got)
		}
		if c := s.canary(); c.Phase != CanaryReturned || c.EndedBy != "bob" || c.Here {
			t.Errorf("after the rollback, the canary is %+v", c)
		}
		s.runs(one, FromFile, 0)
	}
	if err := a.ResizeCanary(ctx, "p", 0.5, Change{}); !errors.Is(err, ErrNoCanary) {
		t.Errorf("another share without a canary: %v", err)
	}
}

// TestFailingCanaryIsTakenBack: a node on which the candidate fails takes it back for all nodes.
func TestFailingCanaryIsTakenBack(t *testing.T) {
	one := module(t, "one1")
	sites := newCanarySites(t, 2, one)
	a, b := sites[0], sites[1]
	settings := CanarySettings{Share: 0.5, For: time.Hour, CanaryLimits: plugins.CanaryLimits{MaxErrors: 0.01}}
	if err := a.DeployCanary(context.Background(), "p", actorModule(t), Change{}, settings); err != nil {
		t.Fatal(err)
	}
	b.follows()
	group := b.candidateGroup()
	for range 5 {
		b.fails(group)
	}
	b.follows()
	a.follows()
	for _, s := range sites {
		if s.fails(group) {
			t.Error("a failing candidate still decides")
		}
		c := s.canary()
		if c.Phase != CanaryReturned || !strings.Contains(c.Reason, "events failed, more than 1%") || c.EndedBy != "edgerelay" {
			t.Errorf("the canary is %+v", c)
		}
	}
	if a.CanariesTakenBack("p") != 0 || b.CanariesTakenBack("p") != 1 {
		t.Errorf("taken back by a: %d, by b: %d; want b alone", a.CanariesTakenBack("p"), b.CanariesTakenBack("p"))
	}
}

// TestCanaryIsRejectedEverywhere: a candidate that a node cannot run is taken back for all.
func TestCanaryIsRejectedEverywhere(t *testing.T) {
	one := module(t, "one1")
	sites := newCanarySites(t, 2, one)
	a, b := sites[0], sites[1]
	if err := b.reload(func(p *Plugin) { p.Grants = nil }); err != nil {
		t.Fatal(err)
	}
	settings := CanarySettings{Share: 0.5, CanaryLimits: lenient}
	if err := a.DeployCanary(context.Background(), "p", actorModule(t), Change{}, settings); err != nil {
		t.Fatal(err)
	}
	b.follows()
	a.follows()
	if c := a.canary(); c.Phase != CanaryReturned || !strings.Contains(c.Reason, "rejected: ") || len(a.failing()) != 0 {
		t.Errorf("the canary is %+v", c)
	}
}

// TestCleanCanaryIsPromoted: a candidate without faults becomes the module of all nodes after its time, or when an
// operator says so.
func TestCleanCanaryIsPromoted(t *testing.T) {
	ctx := context.Background()
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	sites := newCanarySites(t, 2, one)
	a, b := sites[0], sites[1]
	settings := CanarySettings{Share: 1, For: time.Nanosecond, CanaryLimits: plugins.CanaryLimits{MaxErrors: 0.01}}
	if err := a.DeployCanary(ctx, "p", two, Change{}, settings); err != nil {
		t.Fatal(err)
	}
	a.follows()
	if c := a.canary(); c.Phase != CanaryRunning {
		t.Fatalf("without events, the canary is %+v", c)
	}
	for range minPromotedEvents {
		a.fails("g-1")
	}
	a.follows()
	b.follows()
	for _, s := range sites {
		s.runs(two, FromDeploy, 2)
		if c := s.canary(); c.Phase != CanaryPromoted || !strings.Contains(c.Reason, "without faults for") || c.Here {
			t.Errorf("the canary is %+v", c)
		}
	}
	if err := b.DeployCanary(ctx, "p", three, Change{}, CanarySettings{Share: 0.1, CanaryLimits: lenient}); err != nil {
		t.Fatal(err)
	}
	if err := b.Promote(ctx, "p", Change{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	a.follows()
	for _, s := range sites {
		s.runs(three, FromDeploy, 3)
	}
	if err := a.Promote(ctx, "p", Change{}); !errors.Is(err, ErrNoCanary) {
		t.Errorf("a second promotion: %v", err)
	}
	if err := a.Rollback(ctx, "p", Change{}); err != nil {
		t.Fatal(err)
	}
	a.runs(two, FromDeploy, 4)
}

// TestDeploymentReplacesTheCanary: other changes of the plugin end the canary, and its module goes once nothing needs
// it.
func TestDeploymentReplacesTheCanary(t *testing.T) {
	ctx := context.Background()
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	a := newCanarySites(t, 1, one)[0]
	settings := CanarySettings{Share: 0.5, CanaryLimits: lenient}
	if err := a.DeployCanary(ctx, "p", two, Change{}, settings); err != nil {
		t.Fatal(err)
	}
	a.deploy(three, Change{By: "bob"})
	if c := a.canary(); c.Phase != CanaryReplaced || c.EndedBy != "bob" || c.Here {
		t.Errorf("the canary is %+v", c)
	}
	a.runs(three, FromDeploy, 2)
	kept, err := Store{a.storage}.kept(ctx, "p")
	if err != nil || kept[plugins.Hash(two)] || !kept[plugins.Hash(one)] || !kept[plugins.Hash(three)] {
		t.Errorf("the storage has %v (%v)", kept, err)
	}
	if err := a.DeployCanary(ctx, "p", three, Change{}, settings); !errors.Is(err, ErrRunsAlready) {
		t.Errorf("a canary of the module that runs: %v", err)
	}
	for _, c := range []CanarySettings{
		{},
		{Share: 2},
		{Share: math.NaN()},
		{Share: 0.1, For: -1},
		{Share: 0.1, CanaryLimits: plugins.CanaryLimits{MaxErrors: 2}},
		{Share: 0.1, CanaryLimits: plugins.CanaryLimits{MaxSlowdown: 0.5}},
		{Share: 0.1, CanaryLimits: plugins.CanaryLimits{MaxSlowdown: math.Inf(1)}},
	} {
		if err := a.DeployCanary(ctx, "p", two, Change{}, c); !errors.Is(err, ErrInvalidChange) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
