package pluginhost

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// joinTimeout bounds how long a reload waits to join plugins' groups.
const joinTimeout = 2 * time.Second

// align brings what depends on the running plugins in line with them: memberships in groups, and clients for requests.
func (h *Host) align() {
	h.requests.align()
	h.joinSources()
}

// joinSources joins the groups of plugins that may emit, so that such a plugin receives events even if no client of
// this node is subscribed, and the groups that plugins watch, which are announced to peers as well. A node cannot join
// patterns.
func (h *Host) joinSources() {
	h.sourcesMu.Lock()
	defer h.sourcesMu.Unlock()
	sources, watched := map[string]bool{}, map[string]bool{}
	list, _ := h.snapshot()
	for _, p := range list {
		plugin := p.module.plugin
		if plugin.Shadow || plugin.ShadowOf != "" {
			continue
		}
		for _, g := range plugin.Watch {
			watched[g] = true
		}
		if !slices.Contains(plugin.Grants, string(plugins.GrantEmit)) {
			continue
		}
		for _, g := range plugin.Groups {
			if !strings.Contains(g, "*") && relay.ValidGroup(g) {
				sources[g] = true
			}
		}
	}
	// Joins that take longer continue in the layer.
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	reconcile(h.sources, sources, func(g string) func() { return h.hub.Listen(ctx, g, func(relay.Event) {}) })
	reconcile(h.watched, watched, func(g string) func() {
		leave, _ := h.hub.JoinAhead(ctx, []string{g})
		return leave
	})
}

// reconcile joins the groups that are wanted, and leaves the others.
func reconcile(joined map[string]func(), wanted map[string]bool, join func(group string) (leave func())) {
	for g, leave := range joined {
		if !wanted[g] {
			leave()
			delete(joined, g)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(wanted)) {
		if joined[g] == nil {
			joined[g] = join(g)
		}
	}
}

// checkWatch returns an error for a group that cannot be watched, or whose events the plugin does not get.
func (p *Plugin) checkWatch() error {
	for _, g := range p.Watch {
		switch {
		case strings.Contains(g, "*"):
			return fmt.Errorf("watch: %q is a pattern; name each group, since a node cannot join patterns", g)
		case !relay.ValidGroup(g):
			return fmt.Errorf("watch: %q is not a group's name; use ASCII letters, digits, '-', '_' and '.'", g)
		case p.ShadowOf == "" && !slices.ContainsFunc(p.Groups, func(pattern string) bool {
			ok, err := path.Match(pattern, g)
			return ok && err == nil
		}):
			return fmt.Errorf("watch: %s is not among the plugin's groups; add it to groups", g)
		}
	}
	return nil
}
