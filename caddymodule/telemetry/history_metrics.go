package telemetry

import (
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

var (
	descHistoryHealthy = desc("history_healthy", "1 while events are kept in the histories of groups.")
	descHistoryGroups  = desc("history_groups", "Groups with entries in their history, as far as this node knows.")
	descHistoryBytes   = desc("history_bytes", "Memory of the histories, as far as this node knows.")
	descHistoryEvents  = desc("history_events_total", "Events of histories by what this node did with them.", "action")
	descHistoryReads   = desc("history_reads_total", "Reads of histories for clients that resume; many clients share one.")
	descHistoryFailed  = desc("history_failures_total", "Writes to histories and reads that failed.")
	descHistoryGaps    = desc("history_gaps_total", "Gaps that this node marked in histories.")
	descHistoryEvicted = desc("history_evicted_groups_total",
		"Groups whose history ended because all histories together were too large.")
	descHistoryLingering = desc("history_lingering_groups",
		"Groups without a client whose membership is kept for their history.")

	descPositionClients = desc("position_clients", "Open connections that get positions.")
	descResumes         = desc("resumes_total",
		"Subscriptions that asked for earlier events, by result: recovered, latest, or the reason for which the "+
			"client could not resume.", "result")
	descResumesWaiting = desc("resumes_waiting",
		"Subscriptions that wait for the history, or for a slow client to take its replay.")
	descReplayed      = desc("replayed_events_total", "Events replayed from histories, once for each client.")
	descReplayedBytes = desc("replayed_bytes_total", "Bytes of frames replayed from histories, once for each client.")
)

// collectResumes collects the metrics of clients that get positions. The reasons are a closed set.
func collectResumes(out sink, s hub.ResumeStats) {
	out.gauge(descPositionClients, float64(s.Clients))
	out.count(descResumes, s.Recovered, "recovered")
	out.count(descResumes, s.Latest, "latest")
	for reason, n := range s.NotRecovered {
		out.count(descResumes, n, string(reason))
	}
	out.gauge(descResumesWaiting, float64(s.Waiting))
	out.count(descReplayed, s.Events)
	out.count(descReplayedBytes, s.Bytes)
	out.gauge(descHistoryLingering, float64(s.Lingering))
}

// collectHistory collects the metrics of the histories. There are none while no group has a history.
func collectHistory(out sink, history relay.History) {
	inspector, ok := history.(relay.HistoryInspector)
	if !ok {
		return
	}
	s, healthy := inspector.HistoryStats(), 1.0
	if s.Trouble != "" {
		healthy = 0
	}
	out.gauge(descHistoryHealthy, healthy)
	out.gauge(descHistoryGroups, float64(s.Groups))
	out.gauge(descHistoryBytes, float64(s.Bytes))
	out.count(descHistoryEvents, s.Recorded, "recorded")
	out.count(descHistoryEvents, s.Trimmed, "trimmed")
	out.count(descHistoryEvents, s.Adopted, "adopted")
	out.count(descHistoryReads, s.Reads)
	out.count(descHistoryFailed, s.Failed)
	out.count(descHistoryGaps, s.Gaps)
	out.count(descHistoryEvicted, s.Evicted)
}
