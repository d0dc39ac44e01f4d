package admin

import (
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

// StateStatus describes the shared state of plugins.
type StateStatus struct {
	// Kind is "redis", or "memory" for a state in this process.
	Kind string `json:"kind"`
	// Trouble tells why requests fail; absent if they do not.
	Trouble string `json:"trouble,omitempty"`
	// Fired counts alarms that plugins on this node have processed, Failed the attempts that failed, Dropped the alarms
	// given up after the last attempt, and Moved those taken over from another node.
	Fired   uint64 `json:"alarms_fired"`
	Failed  uint64 `json:"alarms_failed"`
	Dropped uint64 `json:"alarms_dropped"`
	Moved   uint64 `json:"alarms_moved"`
}

// stateStatus describes the shared state, nil if no plugin uses it.
func stateStatus(n *node.Node) *StateStatus {
	s := n.State.Store()
	if s == nil {
		return nil
	}
	c := s.Counters()
	return &StateStatus{
		Kind: s.Kind(), Trouble: s.Trouble(), Fired: c.Fired, Failed: c.Failed, Dropped: c.Dropped, Moved: c.Moved,
	}
}

// checkState reports whether the shared state answers, and what each plugin has stored.
func checkState(n *node.Node) (list []doctor.Finding) {
	s := n.State.Store()
	if s == nil {
		return nil
	}
	const check = "shared state"
	if s.Kind() == "memory" {
		return []doctor.Finding{{
			Check: check, Level: doctor.OK, Text: "in this process: it ends with the process, and other nodes have their own",
		}}
	}
	for _, plugin := range n.State.Plugins() {
		u, err := s.Usage(plugin)
		if err != nil {
			return append(list, doctor.Finding{
				Check: check, Level: doctor.Failure, Text: fmt.Sprintf("unavailable: %s", s.Trouble()),
				Remedy: "check the Redis of the shared state; its user needs access to edgerelay:* and to scripts",
			})
		}
		text := fmt.Sprintf("plugin %s: %d keys, %d alarms, %d bytes in redis", plugin, u.Keys, u.Alarms, u.Bytes)
		list = append(list, doctor.Finding{Check: check, Level: doctor.OK, Text: text})
	}
	return list
}
