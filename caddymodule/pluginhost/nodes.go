package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	// reportInterval is the time between two reports of a node without changes.
	reportInterval = 20 * time.Second
	// staleAfter and deadAfter are the ages of reports from which on a node counts as late, and as gone.
	staleAfter = time.Minute
	deadAfter  = 10 * time.Minute
	// reportLife is how long the report of a node that is gone is kept.
	reportLife = 24 * time.Hour
	// maxReports bounds the reports that are read, and maxReportBytes the length of one.
	maxReports     = 256
	maxReportBytes = 1 << 20
)

// NodeReport tells which plugins a node runs. Nodes write them to their storage.
type NodeReport struct {
	// ID is unique to a process, and Node is the host's name.
	ID   string `json:"id"`
	Node string `json:"node"`
	// At is the time of the report, and Started that of the process's start, by the node's clock.
	At      time.Time    `json:"at"`
	Started time.Time    `json:"started"`
	Plugins []NodePlugin `json:"plugins"`
}

// NodePlugin is a plugin in a report.
type NodePlugin struct {
	Name string `json:"name"`
	Hash string `json:"hash"` // of the running module
	From Source `json:"from"`
	// Version is the number of the deployment that runs, 0 for a file.
	Version       uint64 `json:"version,omitempty"`
	Module        string `json:"module,omitempty"`
	ModuleVersion string `json:"module_version,omitempty"`
	// Canary is the canary that runs on the node.
	Canary *NodeCanary `json:"canary,omitempty"`
	// Diverged tells how the node runs something else than the record in the storage says, as far as it knows the record.
	Diverged string `json:"diverged,omitempty"`
	// Refused is the reason why a newer module was rejected.
	Refused string `json:"refused,omitempty"`
	// LastError is the error of the last failed call.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// NodeCanary is a canary in a report.
type NodeCanary struct {
	ID       string  `json:"id"`
	Hash     string  `json:"hash"`
	Share    float64 `json:"share"`
	Events   uint64  `json:"events"`
	Failures uint64  `json:"failures"`
}

// NodeState is the state of a node by the age of its report.
type NodeState string

// States of nodes.
const (
	NodeLive  NodeState = "live"
	NodeStale NodeState = "stale" // no report for a minute: the node is busy, or cannot write to the storage
	NodeDead  NodeState = "dead"  // no report for ten minutes
)

// NodeStatus is a node as GET /edgerelay/plugin-nodes shows it.
type NodeStatus struct {
	NodeReport
	State      NodeState `json:"state"`
	AgeSeconds float64   `json:"age_seconds"`
	// Here tells that this is the node that answers.
	Here bool `json:"here,omitempty"`
}

// stateByAge returns the state of a node whose report has an age.
func stateByAge(age time.Duration) NodeState {
	switch {
	case age >= deadAfter:
		return NodeDead
	case age >= staleAfter:
		return NodeStale
	}
	return NodeLive
}

// PluginConvergence tells whether all live nodes run the same for a plugin.
type PluginConvergence struct {
	Name      string `json:"name"`
	Converged bool   `json:"converged"`
	// Nodes is the number of live nodes that have the plugin.
	Nodes int `json:"nodes"`
	// Why lists the differences.
	Why []string `json:"why,omitempty"`
}

// reporter identifies the reports of a process.
type reporter struct {
	id, node string
	started  time.Time
}

func newReporter() reporter {
	node, _ := os.Hostname() // without a name, the rest of the id identifies the node
	return reporter{id: reportFileName(node) + "-" + newID(), node: node, started: time.Now()}
}

// reportFileName returns the part of a host's name that can be part of a key of a storage.
func reportFileName(node string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, node)
	return safe[:min(len(safe), 64)]
}

func reportKey(id string) string { return path.Join("edgerelay", "plugin-nodes", id+".json") }

// report returns the current report of this node.
func (h *Host) report(now time.Time) NodeReport {
	r := NodeReport{ID: h.self.id, Node: h.self.node, At: now, Started: h.self.started, Plugins: []NodePlugin{}}
	diverged := h.Diverged()
	for _, s := range h.Status() {
		p := NodePlugin{
			Name: s.Name, Hash: s.Hash, From: Source(s.From), Version: s.Version, Module: s.Module,
			ModuleVersion: s.ModuleVersion, Diverged: diverged[s.Name], Refused: s.Refused, LastError: s.LastError,
			LastErrorAt: s.LastErrorAt,
		}
		if c := s.Health.Canary; c != nil {
			p.Canary = &NodeCanary{c.ID, c.Hash, c.Share, c.Candidate.Events, c.Candidate.Failures}
		}
		r.Plugins = append(r.Plugins, p)
	}
	return r
}

// sameModules reports whether two reports differ only in counts and errors of calls, which can wait.
func (r *NodeReport) sameModules(o *NodeReport) bool {
	return slices.EqualFunc(r.Plugins, o.Plugins, func(a, b NodePlugin) bool {
		if a.Canary != nil && b.Canary != nil {
			same := *a.Canary
			same.Events, same.Failures = b.Canary.Events, b.Canary.Failures
			if same != *b.Canary {
				return false
			}
			a.Canary = b.Canary
		}
		a.LastError, a.LastErrorAt = b.LastError, b.LastErrorAt
		return a == b
	})
}

// reportAlways writes reports to the storage until the host closes, and then removes the last one. A node without
// plugins writes none.
func (h *Host) reportAlways() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var last NodeReport
	var into Store
	failed := false
	for {
		select {
		case <-h.closing.Done():
			if into.Storage != nil {
				ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout/2)
				defer cancel()
				_ = into.Storage.Delete(ctx, reportKey(h.self.id)) // else others see it get old
			}
			return
		case <-tick.C:
		}
		list, store := h.snapshot()
		if len(list) == 0 && into.Storage == nil || store.Storage == nil {
			continue
		}
		r := h.report(time.Now())
		if r.sameModules(&last) && r.At.Sub(last.At) < reportInterval {
			continue
		}
		if err := store.writeReport(h.closing, &r); err != nil {
			if !failed && h.closing.Err() == nil {
				h.log.Warn("plugin report not written", "error", err)
			}
			failed = true
			continue
		}
		failed, last, into = false, r, store
	}
}

func (s Store) writeReport(ctx context.Context, r *NodeReport) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.Storage.Store(ctx, reportKey(r.ID), b)
}

// Nodes returns the nodes that share the storage, with their last reports, by name. The report of this node is current.
func (h *Host) Nodes(ctx context.Context) ([]NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	_, store := h.snapshot()
	now := time.Now()
	list := []NodeStatus{{NodeReport: h.report(now), State: NodeLive, Here: true}}
	if store.Storage == nil {
		return list, nil
	}
	keys, err := store.Storage.List(ctx, path.Dir(reportKey("x")), false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &StorageError{fmt.Errorf("list the plugins of other nodes: %w", err)}
	}
	for _, key := range keys {
		if key == reportKey(h.self.id) || !strings.HasSuffix(key, ".json") || len(list) >= maxReports {
			continue
		}
		r, err := store.loadReport(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the node has stopped meanwhile
		}
		if ctx.Err() != nil {
			return nil, &StorageError{fmt.Errorf("load the plugins of other nodes: %w", err)}
		}
		if err != nil { // a report that cannot be read costs only itself
			r = NodeReport{ID: strings.TrimSuffix(path.Base(key), ".json"), Plugins: []NodePlugin{}}
		}
		age := max(0, now.Sub(r.At))
		if age > reportLife {
			_ = store.Storage.Delete(ctx, key)
			continue
		}
		list = append(list, NodeStatus{NodeReport: r, State: stateByAge(age), AgeSeconds: age.Seconds()})
	}
	slices.SortStableFunc(list, func(a, b NodeStatus) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

func (s Store) loadReport(ctx context.Context, key string) (r NodeReport, err error) {
	b, err := s.Storage.Load(ctx, key)
	if err != nil {
		return r, err
	}
	if len(b) > maxReportBytes {
		return r, fmt.Errorf("%s has %d bytes", key, len(b))
	}
	if err = json.Unmarshal(b, &r); err == nil && (r.ID == "" || r.At.IsZero()) {
		err = fmt.Errorf("%s is no report", key)
	}
	return r, err
}

// Converged tells for each plugin whether all live nodes run the same.
func Converged(nodes []NodeStatus) []PluginConvergence {
	list := []PluginConvergence{}
	first := map[string]*NodePlugin{}
	at := map[string]int{}
	for i := range nodes {
		n := &nodes[i]
		if n.State != NodeLive {
			continue
		}
		for j := range n.Plugins {
			p := &n.Plugins[j]
			if first[p.Name] == nil {
				first[p.Name], at[p.Name] = p, len(list)
				list = append(list, PluginConvergence{Name: p.Name})
			}
			c := &list[at[p.Name]]
			c.Nodes++
			switch f := first[p.Name]; {
			case p.Diverged != "":
				c.Why = append(c.Why, fmt.Sprintf("%s: %s", n.Node, p.Diverged))
			case p.Hash != f.Hash && f.Diverged == "":
				c.Why = append(c.Why, fmt.Sprintf("%s: runs %.12s, and others %.12s", n.Node, p.Hash, f.Hash))
			}
		}
	}
	for i := range list {
		list[i].Converged = len(list[i].Why) == 0
	}
	return list
}
