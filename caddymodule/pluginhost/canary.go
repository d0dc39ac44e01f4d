package pluginhost

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// Errors of changes of canaries.
var (
	ErrNoCanary = errors.New("no canary runs; begin one by deploying a module with a share of the groups")
	// ErrRunsAlready is returned for a canary of the module that decides already.
	ErrRunsAlready = errors.New("the module runs already, with the same settings; a canary needs another one")
	ErrCanaryRuns  = errors.New("a canary runs already; promote it or roll it back first")
	// ErrOtherCanary is wrapped by the error of a change that expects another canary, or none.
	ErrOtherCanary = errors.New("the canary has changed")
)

// CanaryPhase is the phase of a canary.
type CanaryPhase string

// Phases of a canary. All but the first are final.
const (
	CanaryRunning  CanaryPhase = "running"  // the candidate decides for the share
	CanaryPromoted CanaryPhase = "promoted" // the candidate has become the deployed module
	CanaryReturned CanaryPhase = "returned" // the candidate was taken back
	CanaryReplaced CanaryPhase = "replaced" // another change of the plugin has ended the canary
)

// CanarySettings are the settings of a canary.
type CanarySettings struct {
	// Share of the groups, above 0 and up to 1.
	Share float64
	// For is the time after which a candidate without faults is promoted; 0: never.
	For time.Duration
	plugins.CanaryLimits
}

// check checks the settings.
func (c *CanarySettings) check() error {
	isShare := func(f float64) bool { return f >= 0 && f <= 1 } // false for NaN
	switch {
	case !isShare(c.Share) || c.Share == 0:
		return fmt.Errorf("%w: share %g; use a share above 0 and up to 100%%", ErrInvalidChange, c.Share)
	case c.For < 0:
		return fmt.Errorf("%w: the time %v is negative", ErrInvalidChange, c.For)
	case !isShare(c.MaxErrors) || c.MaxDiffer != nil && !isShare(*c.MaxDiffer):
		return fmt.Errorf("%w: a limit is not a share; use 0 to 100%%", ErrInvalidChange)
	case c.MaxSlowdown != 0 && !(c.MaxSlowdown >= 1) || math.IsInf(c.MaxSlowdown, 0):
		return fmt.Errorf("%w: slowdown %g; use a factor of at least 1, or 0 for no limit", ErrInvalidChange, c.MaxSlowdown)
	}
	return nil
}

// canaryRecord is the last canary of a plugin, for all nodes that share a storage.
type canaryRecord struct {
	// Candidate is the version that is tried. It has no number: its ID is the canary's.
	Candidate *entry        `json:"candidate"`
	Share     float64       `json:"share"`
	Since     time.Time     `json:"since"`
	For       time.Duration `json:"for,omitempty"`
	// MaxErrors, MaxSlowdown and MaxDiffer are as in [plugins.CanaryLimits].
	MaxErrors   float64  `json:"max_errors"`
	MaxSlowdown float64  `json:"max_slowdown,omitempty"`
	MaxDiffer   *float64 `json:"max_differ,omitempty"`

	Phase CanaryPhase `json:"phase"`
	// Ended, EndedBy and Reason tell when, by whom and why the canary was ended; Node is the node that found the reason.
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"ended_by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Node    string    `json:"node,omitempty"`

	rest unknown
}

// canaryEvent is the kind of a change to a canary's record.
type canaryEvent uint8

const (
	canaryResized canaryEvent = iota
	canaryAccepted
	canaryTakenBack
	canaryOverridden // another change of the plugin came first
)

// canaryChange is a change of a canary's record.
type canaryChange struct {
	event           canaryEvent
	share           float64 // with canaryResized
	at              time.Time
	by, why, onNode string
}

// next returns the record after a change, or ErrNoCanary if the canary does not run. All changes of the phase happen
// here.
func (c canaryRecord) next(change canaryChange) (canaryRecord, error) {
	if c.Phase != CanaryRunning {
		return c, ErrNoCanary
	}
	switch change.event {
	case canaryResized:
		c.Share = change.share
		return c, nil
	case canaryAccepted:
		c.Phase = CanaryPromoted
	case canaryTakenBack:
		c.Phase = CanaryReturned
	case canaryOverridden:
		c.Phase = CanaryReplaced
	}
	c.Ended, c.EndedBy, c.Reason, c.Node = change.at, change.by, change.why, change.onNode
	return c, nil
}

// canary returns the running canary, nil if there is none.
func (r *record) canary() *canaryRecord {
	if r == nil || r.Canary == nil || r.Canary.Phase != CanaryRunning {
		return nil
	}
	return r.Canary
}

// changeCanary changes the canary with an ID.
func (r *record) changeCanary(id string, change canaryChange) error {
	c := r.canary()
	if c == nil || c.Candidate.ID != id {
		return ErrNoCanary
	}
	next, err := c.next(change)
	if err == nil {
		r.Canary = &next
	}
	return err
}

// trial returns the canary for the pipeline.
func (c *canaryRecord) trial() plugins.Canary {
	return plugins.Canary{
		ID: c.Candidate.ID, Share: c.Share, Since: c.Since,
		Limits: plugins.CanaryLimits{MaxErrors: c.MaxErrors, MaxSlowdown: c.MaxSlowdown, MaxDiffer: c.MaxDiffer},
	}
}

// CanaryStatus is the last canary of a plugin as GET /edgerelay/plugins shows it.
type CanaryStatus struct {
	// CanaryReport has the counts of this node while the canary runs here.
	plugins.CanaryReport
	Phase CanaryPhase `json:"phase"`
	// ForSeconds is the time after which a candidate without faults is promoted; 0: never.
	ForSeconds  float64  `json:"for_seconds,omitempty"`
	MaxErrors   float64  `json:"max_errors"`
	MaxSlowdown float64  `json:"max_slowdown,omitempty"`
	MaxDiffer   *float64 `json:"max_differ,omitempty"`
	// Module and ModuleVersion are name and version in the candidate's manifest.
	Module        string `json:"module,omitempty"`
	ModuleVersion string `json:"module_version,omitempty"`
	// By and Message tell who started the canary and why.
	By      string `json:"by,omitempty"`
	Message string `json:"message,omitempty"`
	// Here tells that the canary runs on this node.
	Here bool `json:"here"`
	// Ended, EndedBy and Reason tell when, by whom and why the canary was ended, and Node which node found the reason.
	Ended   time.Time `json:"ended,omitzero"`
	EndedBy string    `json:"ended_by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Node    string    `json:"node,omitempty"`
}

// status describes a canary. local is its state on this node, nil if it does not run here.
func (c *canaryRecord) status(local *plugins.CanaryReport) *CanaryStatus {
	e := c.Candidate
	s := &CanaryStatus{
		CanaryReport: plugins.CanaryReport{ID: e.ID, Hash: e.Hash, Share: c.Share, Since: c.Since},
		Phase:        c.Phase, ForSeconds: c.For.Seconds(), MaxErrors: c.MaxErrors, MaxSlowdown: c.MaxSlowdown,
		MaxDiffer: c.MaxDiffer, Module: e.Module, ModuleVersion: e.ModuleVersion, By: e.By, Message: e.Message,
		Ended: c.Ended, EndedBy: c.EndedBy, Reason: c.Reason, Node: c.Node,
	}
	if local != nil && local.ID == e.ID {
		s.CanaryReport, s.Here = *local, true
	}
	return s
}
