package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// HistoryStatus describes the histories of all groups.
type HistoryStatus struct {
	// Kind is ring, sorted_set or stream.
	Kind string `json:"kind"`
	// Groups is the number of groups with entries, and Bytes their memory, as far as this node knows.
	Groups int   `json:"groups"`
	Bytes  int64 `json:"bytes"`
	// Trouble describes why events are not kept at the moment; absent if they are.
	Trouble string `json:"trouble,omitempty"`
	// The counters are those of this node, since its start or since another channel layer.
	Recorded uint64 `json:"recorded"`
	Trimmed  uint64 `json:"trimmed"`
	Reads    uint64 `json:"reads"`
	Failed   uint64 `json:"failed"`
	Adopted  uint64 `json:"adopted"`
	Gaps     uint64 `json:"gaps"`
	Evicted  uint64 `json:"evicted"`
}

// historyStatus describes the histories; nil if no group has one.
func historyStatus(n *node.Node) *HistoryStatus {
	inspector, ok := n.Hub.History().(relay.HistoryInspector)
	if !ok {
		return nil
	}
	s := inspector.HistoryStats()
	return &HistoryStatus{
		Kind: s.Kind, Groups: s.Groups, Bytes: s.Bytes, Trouble: s.Trouble, Recorded: s.Recorded, Trimmed: s.Trimmed,
		Reads: s.Reads, Failed: s.Failed, Adopted: s.Adopted, Gaps: s.Gaps, Evicted: s.Evicted,
	}
}

// ResumeStatus counts the subscriptions of clients that get positions.
type ResumeStatus struct {
	// Clients is the number of clients that get positions. Waiting is the number of subscriptions that wait for the
	// history, or for a slow client to take its replay. Lingering is the number of groups without a client whose
	// membership is kept for their history.
	Clients   int `json:"clients"`
	Waiting   int `json:"waiting"`
	Lingering int `json:"lingering_groups"`
	// Recovered counts subscriptions that got all events after a position, Latest those that got the last events, and
	// NotRecovered those that could not resume, by reason.
	Recovered    uint64            `json:"recovered"`
	Latest       uint64            `json:"latest"`
	NotRecovered map[string]uint64 `json:"not_recovered"`
	// Events counts replayed events, Bytes the bytes of the replays, once for each client.
	Events uint64 `json:"replayed_events"`
	Bytes  uint64 `json:"replayed_bytes"`
}

// resumeStatus counts the subscriptions of clients that get positions.
func resumeStatus(n *node.Node) ResumeStatus {
	s := n.Hub.ResumeStats()
	status := ResumeStatus{
		Clients: s.Clients, Waiting: s.Waiting, Lingering: s.Lingering, Recovered: s.Recovered, Latest: s.Latest,
		Events: s.Events, Bytes: s.Bytes, NotRecovered: make(map[string]uint64, len(s.NotRecovered)),
	}
	for reason, count := range s.NotRecovered {
		status.NotRecovered[string(reason)] = count
	}
	return status
}

// GroupResumes counts the subscriptions of a group that began with earlier events, or could not.
type GroupResumes struct {
	Recovered    uint64 `json:"recovered"`
	NotRecovered uint64 `json:"not_recovered"`
	Latest       uint64 `json:"latest"`
	// Events is the number of replayed events.
	Events uint64 `json:"replayed_events"`
	// Last is the time of the last of these subscriptions, and LastReason the reason for which it could not resume;
	// absent if it did.
	Last       time.Time `json:"last"`
	LastReason string    `json:"last_reason,omitempty"`
}

// groupResumes counts the resumes of a group; nil if there were none lately.
func groupResumes(n *node.Node, group string) *GroupResumes {
	r, ok := n.Hub.GroupResumes(group)
	if !ok {
		return nil
	}
	return &GroupResumes{
		Recovered: r.Recovered, NotRecovered: r.NotRecovered, Latest: r.Latest, Events: r.Events,
		Last: r.Last, LastReason: string(r.LastReason),
	}
}

// GroupHistory describes the history of a group.
type GroupHistory struct {
	// Events is the number of events, Gaps the number of gaps, and Bytes the memory that both need.
	Events int   `json:"events"`
	Gaps   int   `json:"gaps"`
	Bytes  int64 `json:"bytes"`
	// Oldest and Newest are the times of the first and the last event; absent without an event.
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
	// Limits are the bounds.
	Limits HistoryLimits `json:"limits"`
	// Resumes counts this node's clients that resumed in the group, or could not; absent if there were none lately.
	Resumes *GroupResumes `json:"resumes,omitempty"`
}

// HistoryLimits are the bounds of a group's history.
type HistoryLimits struct {
	Count int     `json:"count"`
	Bytes int     `json:"bytes"`
	Age   float64 `json:"age_seconds"`
}

// inspectTimeout bounds the time for the channel layer to describe the histories of groups.
const inspectTimeout = time.Second

// errNoHistory is the error for a group without a history.
var errNoHistory = errors.New("the group has no history; add 'history <pattern>' to the configuration")

// inspect describes the history of a group. The error is errNoHistory, or that of the channel layer.
func inspect(ctx context.Context, n *node.Node, group string) (g GroupHistory, err error) {
	history := n.Hub.History()
	inspector, ok := history.(relay.HistoryInspector)
	if !ok {
		return g, errNoHistory
	}
	limits, ok := history.Limits(group)
	if !ok {
		return g, errNoHistory
	}
	info, err := inspector.InspectHistory(ctx, group)
	return GroupHistory{
		Events: info.Events, Gaps: info.Gaps, Bytes: info.Bytes, Oldest: info.Oldest, Newest: info.Newest,
		Limits:  HistoryLimits{limits.Count, limits.Bytes, limits.Age.Seconds()},
		Resumes: groupResumes(n, group),
	}, err
}

// serveGroupHistory describes the history of a group.
func serveGroupHistory(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	group := r.PathValue("name")
	if err := errors.Join(relay.CheckGroup(group), rejectUnknownParameters(r.URL.Query())); err != nil {
		return badRequest(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), inspectTimeout)
	defer cancel()
	g, err := InspectHistory(ctx, n, group)
	if err != nil {
		return err
	}
	return WriteJSON(w, g)
}

// InspectHistory describes the history of a group. The error is an answer for the client.
func InspectHistory(ctx context.Context, n *node.Node, group string) (GroupHistory, error) {
	g, err := inspect(ctx, n, group)
	switch {
	case errors.Is(err, errNoHistory):
		return g, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case err != nil:
		err = fmt.Errorf("reading the history: %w; check the channel layer with 'caddy edgerelay doctor'", err)
		return g, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return g, nil
}

// addHistories describes the histories of groups, all at once. A history that cannot be read stays nil.
func addHistories(n *node.Node, groups []Group) {
	if n.Hub.History() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), inspectTimeout)
	defer cancel()
	var inspections sync.WaitGroup
	for i := range groups {
		inspections.Go(func() {
			if g, err := inspect(ctx, n, groups[i].Group); err == nil {
				groups[i].History = &g
			}
		})
	}
	inspections.Wait()
}
