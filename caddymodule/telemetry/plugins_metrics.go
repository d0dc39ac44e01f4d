package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/outbound"
)

var (
	descPluginCalls          = desc("plugin_calls_total", "Calls of a plugin's hooks, including failed calls.", "plugin")
	descPluginVerdicts       = desc("plugin_verdicts_total", "Verdicts of a plugin.", "plugin", "verdict")
	descPluginFuel           = desc("plugin_fuel_total", "Units of fuel spent by a plugin.", "plugin")
	descPluginFailures       = desc("plugin_failures_total", "Failed calls of a plugin, by kind.", "plugin", "kind")
	descPluginReplayFailures = desc("plugin_replay_failures_total",
		"Failed calls of a plugin for events of the history. They also count as failures.", "plugin")
	descPluginUnprocessed = desc("plugin_unprocessed_total",
		"Events that a plugin could not process, by outcome of on_error.", "plugin", "outcome")
	descPluginSkipped = desc("plugin_calls_skipped_total",
		"Calls not made because the circuit breaker was open for their group.", "plugin")
	descPluginBusy = desc("plugin_calls_busy_total",
		"Calls for clients of a function not made because too many calls waited for an instance.", "plugin")
	descPluginBreaker = desc("plugin_breaker_open",
		"Groups for which the circuit breaker of a hook is open.", "plugin")
	descPluginRejected = desc("plugin_update_rejected",
		"1 while a plugin goes on as it was because a newer module, its samples or its secrets were rejected.", "plugin")
	descPluginSignatures = desc("plugin_signatures_refused_total",
		"Modules of a plugin that were refused for a missing or wrong signature.", "plugin")
	descPluginDiverged = desc("plugin_diverged",
		"1 while this node runs another module or canary of a plugin than the record in the storage says.", "plugin")
	descPluginCanaryShare = desc("plugin_canary_share",
		"Share of the groups for which the candidate of a canary decides, 0 without a canary.", "plugin")
	descPluginCanaryEvents = desc("plugin_canary_events_total",
		"Events of the two modules of a canary, since it started on this node.", "plugin", "module", "result")
	descPluginTakenBack = desc("plugin_canaries_taken_back_total",
		"Candidates of canaries that this node took back for a fault.", "plugin")
	descPluginRecorded = desc("plugin_recorded", "1 while an operator records the connections of a function.", "plugin")
	descPluginShadow   = desc("plugin_shadow_total",
		"Decisions of a shadow, by agreement with the original.", "plugin", "result")
	descPluginDeploys = desc("plugin_deploys_total", "Module changes of a plugin.", "plugin")
	descPluginMemory  = desc("plugin_memory_bytes",
		"Linear memory that all instances of a plugin hold, those of a canary and the spare ones included.", "plugin")
	descPluginKV      = desc("plugin_kv_bytes", "Bytes in a plugin's key-value store.", "plugin")
	descPluginCounter = desc("plugin_counter_total", "Counters of the plugin itself.", "plugin", "counter")
	descPluginSeconds = desc("plugin_call_seconds",
		"Durations of a plugin's calls. Most calls below a millisecond are not timed and count like the last timed one.",
		"plugin", "hook")
	descPluginQueued = desc("plugin_queued_events",
		"Events that wait for a plugin. An event of several plugins counts for the slowest.", "plugin")
	descPluginQueuedBytes = desc("plugin_queued_bytes", "Bytes of the events that wait for a plugin.", "plugin")
	descPluginOldest      = desc("plugin_oldest_event_seconds",
		"How long the oldest event has waited for a plugin.", "plugin")
	descPluginSlow     = desc("plugin_dropped_slow_total", "Events dropped because a plugin was too slow.", "plugin")
	descPluginMessages = desc("plugin_messages_total",
		"Messages that a plugin published, by result; mailbox_full counts the full mailboxes that dropped one.",
		"plugin", "result")
	descPluginFetches = desc("plugin_fetch_total",
		"HTTP requests of a plugin, by the class of the response's status or the reason why there is none.",
		"plugin", "result")
	descPluginFetchSeconds = desc("plugin_fetch_seconds", "Durations of a plugin's HTTP requests.", "plugin")
	descPluginFetching     = desc("plugin_fetch_in_flight", "HTTP requests of a plugin that have not ended.", "plugin")
)

// collectFetches collects the metrics of plugins' HTTP requests.
func collectFetches(out sink, h *pluginhost.Host) {
	for name, s := range h.Fetches() {
		for i, n := range s.Results {
			out.count(descPluginFetches, n, name, outbound.Labels[i])
		}
		out.count(descPluginFetches, s.Claimed, name, "made_before")
		out.gauge(descPluginFetching, float64(s.InFlight), name)
		buckets := map[float64]uint64{}
		for i, n := range s.Buckets {
			buckets[outbound.Bounds[i].Seconds()] = n
		}
		out <- prometheus.MustNewConstHistogram(descPluginFetchSeconds, s.Sent, s.Seconds, buckets, name)
	}
}

// collectPlugins collects the metrics of a node's plugins.
func collectPlugins(out sink, h *pluginhost.Host) {
	collectFetches(out, h)
	queues, rejected, diverged := h.Lanes.Queues(), h.Rejected(), h.Diverged()
	for _, p := range h.Pipeline.Health() {
		name, queue := p.Name, queues[p.Name]
		out.gauge(descPluginQueued, float64(queue.Queued), name)
		out.gauge(descPluginQueuedBytes, float64(queue.QueuedBytes), name)
		out.gauge(descPluginOldest, queue.OldestSeconds, name)
		out.count(descPluginSlow, queue.DroppedSlow, name)
		for hook, durations := range p.CallSeconds {
			out.histogram(descPluginSeconds, &durations, name, hook)
		}
		out.count(descPluginCalls, p.Calls, name)
		out.count(descPluginVerdicts, p.Passed, name, "pass")
		out.count(descPluginVerdicts, p.Dropped, name, "drop")
		out.count(descPluginVerdicts, p.Replaced, name, "replace")
		out.count(descPluginVerdicts, p.Emitted, name, "emit")
		out.count(descPluginVerdicts, p.Rendered, name, "render")
		out.count(descPluginVerdicts, p.Replayed, name, "replay")
		out.count(descPluginVerdicts, p.Subscribes-p.Denied, name, "allow")
		out.count(descPluginVerdicts, p.Denied, name, "deny")
		out.count(descPluginFuel, p.Fuel, name)
		for kind, n := range p.Failures {
			out.count(descPluginFailures, n, name, string(kind))
		}
		out.count(descPluginReplayFailures, p.ReplayFailures, name)
		for _, outcome := range plugins.Outcomes {
			out.count(descPluginUnprocessed, p.Unprocessed[outcome], name, outcome)
		}
		out.count(descPluginSkipped, p.CallsSkipped, name)
		out.count(descPluginBusy, p.CallsBusy, name)
		out.gauge(descPluginBreaker, float64(p.OpenBreakerCount), name)
		update := 0.0
		if rejected[name] {
			update = 1
		}
		out.gauge(descPluginRejected, update, name)
		differs := 0.0
		if diverged[name] != "" {
			differs = 1
		}
		out.gauge(descPluginDiverged, differs, name)
		collectCanary(out, name, p.Canary)
		out.count(descPluginTakenBack, h.CanariesTakenBack(name), name)
		recorded := 0.0
		if h.Pipeline.Recorded(name) {
			recorded = 1
		}
		out.gauge(descPluginRecorded, recorded, name)
		collectMessages(out, name, h.Messages(name))
		out.count(descPluginSignatures, h.SignaturesRefused(name), name)
		if p.Shadow {
			out.count(descPluginShadow, p.Same, name, "same")
			out.count(descPluginShadow, p.Differ, name, "differ")
			out.count(descPluginShadow, p.ShadowSkipped, name, "skipped")
		}
		out.count(descPluginDeploys, p.Deploys, name)
		out.gauge(descPluginMemory, float64(p.Memory), name)
		out.gauge(descPluginKV, float64(p.KV), name)
		for counter, n := range p.Metrics {
			out.count(descPluginCounter, n, name, counter)
		}
	}
}

// collectMessages collects the metrics of a plugin's messages.
func collectMessages(out sink, name string, s pluginhost.MessageStats) {
	out.count(descPluginMessages, s.Published, name, "published")
	out.count(descPluginMessages, s.Failed, name, "failed")
	out.count(descPluginMessages, s.QueueFull, name, "queue_full")
	out.count(descPluginMessages, s.MailboxFull, name, "mailbox_full")
}

// collectCanary collects the metrics of a plugin's canary, which is nil if there is none.
func collectCanary(out sink, name string, c *plugins.CanaryReport) {
	if c == nil {
		c = &plugins.CanaryReport{}
	}
	out.gauge(descPluginCanaryShare, c.Share, name)
	for module, calls := range map[string]plugins.CanaryCalls{"candidate": c.Candidate, "stable": c.Stable} {
		out.count(descPluginCanaryEvents, calls.Events-min(calls.Failures, calls.Events), name, module, "ok")
		out.count(descPluginCanaryEvents, calls.Failures, name, module, "failed")
	}
}

// histogram sends the durations of a plugin's calls.
func (s sink) histogram(d *prometheus.Desc, h *plugins.Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for i, n := range h.Buckets {
		buckets[plugins.DurationBounds[i].Seconds()] = n
	}
	s <- prometheus.MustNewConstHistogram(d, h.Count, h.Seconds, buckets, labels...)
}
