package telemetry

import (
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

var (
	descPluginCalls       = desc("plugin_calls_total", "Calls of a plugin's hooks, including failed calls.", "plugin")
	descPluginVerdicts    = desc("plugin_verdicts_total", "Verdicts of a plugin.", "plugin", "verdict")
	descPluginFuel        = desc("plugin_fuel_total", "Units of fuel spent by a plugin.", "plugin")
	descPluginFailures    = desc("plugin_failures_total", "Failed calls of a plugin, by kind.", "plugin", "kind")
	descPluginUnprocessed = desc("plugin_unprocessed_total",
		"Events that a plugin could not process, by outcome of on_error.", "plugin", "outcome")
	descPluginSkipped = desc("plugin_calls_skipped_total",
		"Calls not made because the circuit breaker was open for their group.", "plugin")
	descPluginBreaker = desc("plugin_breaker_open",
		"Groups for which the circuit breaker of a hook is open.", "plugin")
	descPluginShadow = desc("plugin_shadow_total",
		"Decisions of a shadow, by agreement with the original.", "plugin", "result")
	descPluginDeploys = desc("plugin_deploys_total", "Module changes of a plugin.", "plugin")
	descPluginMemory  = desc("plugin_memory_bytes", "Linear memory of all instances of a plugin.", "plugin")
	descPluginKV      = desc("plugin_kv_bytes", "Bytes in a plugin's key-value store.", "plugin")
	descPluginCounter = desc("plugin_counter_total", "Counters of the plugin itself.", "plugin", "counter")
	descPluginQueued  = desc("plugin_queued_events", "Events queued for plugins.")
)

// collectPlugins collects the metrics of a node's plugins.
func collectPlugins(out sink, h *pluginhost.Host) {
	out.gauge(descPluginQueued, float64(h.Lanes.Stats().Queued))
	for _, p := range h.Pipeline.Health() {
		name := p.Name
		out.count(descPluginCalls, p.Calls, name)
		out.count(descPluginVerdicts, p.Passed, name, "pass")
		out.count(descPluginVerdicts, p.Dropped, name, "drop")
		out.count(descPluginVerdicts, p.Replaced, name, "replace")
		out.count(descPluginVerdicts, p.Emitted, name, "emit")
		out.count(descPluginVerdicts, p.Rendered, name, "render")
		out.count(descPluginVerdicts, p.Subscribes-p.Denied, name, "allow")
		out.count(descPluginVerdicts, p.Denied, name, "deny")
		out.count(descPluginFuel, p.Fuel, name)
		for kind, n := range p.Failures {
			out.count(descPluginFailures, n, name, string(kind))
		}
		for _, outcome := range plugins.Outcomes {
			out.count(descPluginUnprocessed, p.Unprocessed[outcome], name, outcome)
		}
		out.count(descPluginSkipped, p.CallsSkipped, name)
		out.gauge(descPluginBreaker, float64(p.OpenBreakerCount), name)
		if p.Shadow {
			out.count(descPluginShadow, p.Same, name, "same")
			out.count(descPluginShadow, p.Differ, name, "differ")
		}
		out.count(descPluginDeploys, p.Deploys, name)
		out.gauge(descPluginMemory, float64(p.Memory), name)
		out.gauge(descPluginKV, float64(p.KV), name)
		for counter, n := range p.Metrics {
			out.count(descPluginCounter, n, name, counter)
		}
	}
}
