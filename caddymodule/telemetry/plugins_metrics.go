package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

var (
	descPluginCalls    = desc("plugin_calls_total", "Calls of a plugin's hooks, including failed calls.", "plugin")
	descPluginVerdicts = desc("plugin_verdicts_total", "Verdicts of a plugin.", "plugin", "verdict")
	descPluginFuel     = desc("plugin_fuel_total", "Units of fuel spent by a plugin.", "plugin")
	descPluginFailures = desc("plugin_failures_total", "Failed calls of a plugin, by kind.", "plugin", "kind")
	descPluginFailing  = desc("plugin_unprocessed_total", "Events that a plugin could not process, by outcome of on_error.", "plugin", "outcome")
	descPluginSkipped  = desc("plugin_calls_skipped_total", "Calls not made because the circuit breaker was open for their group.", "plugin")
	descPluginBreaker  = desc("plugin_breaker_open", "Groups for which the circuit breaker of a hook is open.", "plugin")
	descPluginShadow   = desc("plugin_shadow_total", "Decisions of a shadow, by agreement with the original.", "plugin", "result")
	descPluginDeploys  = desc("plugin_deploys_total", "Module changes of a plugin.", "plugin")
	descPluginMemory   = desc("plugin_memory_bytes", "Linear memory of all instances of a plugin.", "plugin")
	descPluginKV       = desc("plugin_kv_bytes", "Bytes in a plugin's key-value store.", "plugin")
	descPluginCounter  = desc("plugin_counter_total", "Counters of the plugin itself.", "plugin", "counter")
	descPluginQueued   = desc("plugin_queued_events", "Events queued for plugins.")
)

// collectPlugins shows the figures of a node's plugins.
func collectPlugins(h *pluginhost.Host, gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string)) {
	gauge(descPluginQueued, float64(h.Lanes.Stats().Queued))
	for _, p := range h.Pipeline.Health() {
		name := p.Name
		count(descPluginCalls, p.Calls, name)
		count(descPluginVerdicts, p.Passed, name, "pass")
		count(descPluginVerdicts, p.Dropped, name, "drop")
		count(descPluginVerdicts, p.Replaced, name, "replace")
		count(descPluginVerdicts, p.Emitted, name, "emit")
		count(descPluginVerdicts, p.Rendered, name, "render")
		count(descPluginVerdicts, p.Subscribes-p.Denied, name, "allow")
		count(descPluginVerdicts, p.Denied, name, "deny")
		count(descPluginFuel, p.Fuel, name)
		for kind, n := range p.Failures {
			count(descPluginFailures, n, name, string(kind))
		}
		for _, outcome := range plugins.Outcomes {
			count(descPluginFailing, p.Unprocessed[outcome], name, outcome)
		}
		count(descPluginSkipped, p.CallsSkipped, name)
		gauge(descPluginBreaker, float64(p.OpenBreakerCount), name)
		if p.Shadow {
			count(descPluginShadow, p.Same, name, "same")
			count(descPluginShadow, p.Differ, name, "differ")
		}
		count(descPluginDeploys, p.Deploys, name)
		gauge(descPluginMemory, float64(p.Memory), name)
		gauge(descPluginKV, float64(p.KV), name)
		for counter, n := range p.Metrics {
			count(descPluginCounter, n, name, counter)
		}
	}
}
