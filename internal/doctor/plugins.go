package doctor

import "strings"

// PluginNodes reports whether the nodes that share a storage run the same plugins. stale are the nodes whose reports
// are late, and differ tells what differs.
func PluginNodes(live int, stale, differ []string, err error) Finding {
	const check = "plugin versions"
	switch {
	case err != nil:
		return fail(check, "make Caddy's storage available to this node", "the plugins of other nodes are unknown: %v", err)
	case len(differ) > 0:
		return warn(check, "see 'caddy edgerelay plugin list --nodes'; deploy the module again, or undeploy it",
			"nodes run different plugins: %s", strings.Join(differ, "; "))
	case len(stale) > 0:
		return warn(check, "see whether these nodes run, and whether they can write to Caddy's storage",
			"%s without a report about plugins for a minute: %s", plural(len(stale), "node"), strings.Join(stale, ", "))
	}
	if live == 1 {
		return ok(check, "one node uses the storage, so all nodes run the same plugins")
	}
	return ok(check, "all %d nodes of the storage run the same plugins", live)
}
