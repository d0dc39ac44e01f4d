package pluginhost

import (
	"context"
	"strings"
	"testing"
	"time"
)

// reportsNow writes the node's report as its watcher does.
func (s *site) reportsNow() NodeReport {
	s.t.Helper()
	r := s.report(time.Now())
	if err := (Store{s.storage}).writeReport(context.Background(), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// nodes returns what a node knows of all nodes, by id.
func (s *site) nodes() map[string]NodeStatus {
	s.t.Helper()
	list, err := s.Nodes(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	byID := map[string]NodeStatus{}
	for _, n := range list {
		byID[n.ID] = n
	}
	return byID
}

// why returns why the nodes of a site run different modules of the plugin p.
func (s *site) why() string {
	s.t.Helper()
	list, err := s.Nodes(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range Converged(list) {
		if c.Name == "p" {
			return strings.Join(c.Why, "; ")
		}
	}
	s.t.Fatal("no live node has the plugin")
	return ""
}

// TestNodesConverge: each node shows what the others run, also in a canary, and how they differ from the record.
func TestNodesConverge(t *testing.T) {
	ctx := context.Background()
	one, two := module(t, "one1"), module(t, "two2")
	sites := newCanarySites(t, 2, one)
	a, b := sites[0], sites[1]
	a.reportsNow()
	b.reportsNow()
	if why := a.why(); why != "" || len(a.nodes()) != 2 {
		t.Errorf("%d nodes with one file: %s", len(a.nodes()), why)
	}
	a.deploy(two, Change{})
	b.poll(ctx, Store{b.storage}, func() *runningPlugin { p, _, _ := b.lookUp("p"); return &p }())
	b.reportsNow()
	if why := a.why(); !strings.Contains(why, "the file") || b.Diverged()["p"] == "" || a.Diverged()["p"] != "" {
		t.Errorf("with a node that has not followed: %q", why)
	}
	b.follows()
	b.reportsNow()
	if why := a.why(); why != "" || b.Diverged()["p"] != "" {
		t.Errorf("after the deployment: %q", why)
	}
	if err := a.DeployCanary(ctx, "p", one, Change{}, CanarySettings{Share: 0.2, CanaryLimits: lenient}); err != nil {
		t.Fatal(err)
	}
	b.poll(ctx, Store{b.storage}, func() *runningPlugin { p, _, _ := b.lookUp("p"); return &p }())
	b.reportsNow()
	if why := a.why(); !strings.Contains(why, "does not run") {
		t.Errorf("with a node without the canary: %q", why)
	}
	b.follows()
	r := b.reportsNow()
	if why := a.why(); why != "" {
		t.Errorf("with the canary on both: %q", why)
	}
	n := a.nodes()[r.ID]
	if n.State != NodeLive || len(n.Plugins) != 1 || n.Plugins[0].Canary == nil || n.Plugins[0].Canary.Share != 0.2 {
		t.Errorf("the other node is %+v", n)
	}
}

// TestOldReports: reports of nodes that have stopped writing are shown as such, and go in the end.
func TestOldReports(t *testing.T) {
	ctx := context.Background()
	a := newCanarySites(t, 1, module(t, "one1"))[0]
	for name, age := range map[string]time.Duration{
		"fresh": 0, "ahead": -time.Hour, "late": staleAfter + time.Second, "gone": deadAfter, "old": reportLife + time.Second,
	} {
		r := NodeReport{ID: name, Node: name, At: time.Now().Add(-age), Plugins: []NodePlugin{{Name: "p", Hash: "other"}}}
		if err := (Store{a.storage}).writeReport(ctx, &r); err != nil {
			t.Fatal(err)
		}
	}
	for key, text := range map[string]string{"empty": "", "broken": "{", "other": "[]", "nothing": "{}"} {
		if err := a.storage.Store(ctx, reportKey(key), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		nodes := a.nodes()
		if len(nodes) != 5 { // with this node
			t.Errorf("the nodes are %v", nodes)
		}
		for name, want := range map[string]NodeState{
			"fresh": NodeLive, "ahead": NodeLive, "late": NodeStale, "gone": NodeDead,
		} {
			if n := nodes[name]; n.State != want || n.AgeSeconds < 0 {
				t.Errorf("%s is %s, %v s old; want %s", name, n.State, n.AgeSeconds, want)
			}
		}
	}
	if why := a.why(); strings.Count(why, "others") != 1 {
		t.Errorf("among nodes that report and others, %q differs", why)
	}
}

// TestReportIsWrittenAndRemoved: a node reports by itself, and takes the report away when it stops.
func TestReportIsWrittenAndRemoved(t *testing.T) {
	a := newCanarySites(t, 1, module(t, "one1"))[0]
	key := reportKey(a.self.id)
	for deadline := time.Now().Add(30 * time.Second); !a.storage.Exists(t.Context(), key); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no report was written")
		}
	}
	a.close()
	if a.storage.Exists(t.Context(), key) {
		t.Error("the report of a node that has stopped is left")
	}
}
