package pluginhost

import (
	"context"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// TestRemovedPluginsStayUntilApply: the plan of a configuration that may still be rejected removes no plugin, and does
// not double one that has another name.
func TestRemovedPluginsStayUntilApply(t *testing.T) {
	for _, test := range []struct {
		what   string
		change func(*Plugin) // nil: no plugin
		want   string        // between the plan and Apply
		last   string        // after Apply
	}{
		{"removed", nil, `{"seen":true,"n":1}`, `{"n":1}`},
		{"renamed", func(p *Plugin) { p.Name = "q" }, `{"seen":true,"n":1}`, `{"seen":true,"n":1}`},
		{"for other groups", func(p *Plugin) { p.Name, p.Groups = "q", []string{"h-*"} }, `{"seen":true,"n":1}`, `{"n":1}`},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := newSite(t)
			s.plugin.Groups = []string{"t-*"}
			s.write(module(t, "seen"))
			s.start()
			var list []*Plugin
			if test.change != nil {
				p := s.plugin
				test.change(&p)
				if err := p.Provision(); err != nil {
					t.Fatal(err)
				}
				list = append(list, &p)
			}
			check := func(when, want string) {
				t.Helper()
				out := s.Pipeline.Process(plugins.Event{Group: "t-1", Payload: []byte(`{"n":1}`)}, nil)
				if len(out) != 1 || string(out[0].Payload) != want {
					t.Errorf("%s: outputs %+v, want %s", when, out, want)
				}
			}
			plan, err := s.Plan(context.Background(), list, Store{s.storage})
			if err != nil {
				t.Fatal(err)
			}
			defer plan.Close()
			if err := s.Install(plan); err != nil {
				t.Fatal(err)
			}
			check("after the plan", test.want)
			if err := s.Apply(context.Background(), list, Store{s.storage}); err != nil {
				t.Fatal(err)
			}
			check("after Apply", test.last)
			if s.HasOthers(list) {
				t.Error("other plugins run")
			}
		})
	}
}
