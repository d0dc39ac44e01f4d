package backplane

import "fmt"

// phase is the stage of a link's life, which decides whether events are exchanged over the link.
//
// A link to a Python node is probed first: handshake → probing → separate or same layer. A link to a relay may turn
// out to be redundant, and each foreign channel layer has a single source: handshake →
// tentative → standby ⇄ asked, late, source. Of two links to one node, one retires.
type phase int32

const (
	// phaseHandshake: the peer has not proved yet that it knows the secret.
	phaseHandshake phase = iota
	// phaseProbing: the Python node may be on this node's channel layer. Events in both directions are held.
	phaseProbing
	// phaseSeparate: the Python node has a channel layer of its own. Events are exchanged.
	phaseSeparate
	// phaseSameLayer: the Python node is on this node's channel layer. Events are discarded.
	phaseSameLayer
	// phaseTentative: the relay, which dialed, may still close the link as redundant.
	phaseTentative
	// phaseStandby: the link stays, but is not the source of the peer's channel layer.
	phaseStandby
	// phaseAsked: the link was chosen as the source; the peer has not confirmed this node's interest.
	phaseAsked
	// phaseLate: the link is the source, and a confirmation took longer than a client may be kept waiting. Until the
	// peer has caught up, no subscription waits for it.
	phaseLate
	// phaseSource: the link is the source, and the peer has confirmed this node's interest.
	phaseSource
	// phaseRetired: another link to the same node has taken over, and this one ends soon. Events that still arrive over it
	// arrive again over the other link.
	phaseRetired
	// phaseEnded: the link is gone. No signal leads out of this phase.
	phaseEnded

	phases // the number of phases
)

var phaseNames = [phases]string{
	"handshake", "probing", "separate", "same layer", "tentative", "standby", "asked", "late", "source",
	"retired", "ended",
}

// String names the phase in test failures.
func (p phase) String() string {
	if p < 0 || p >= phases {
		return fmt.Sprintf("phase %d", int32(p))
	}
	return phaseNames[p]
}

// signal moves a link from one phase to the next.
type signal uint8

const (
	// signalPython: the peer is a Python node.
	signalPython signal = iota
	// signalDialed: the handshake with a relay that this node dialed has succeeded.
	signalDialed
	// signalAccepted: the handshake with a relay that dialed this node has succeeded.
	signalAccepted
	// signalKept: the dialing relay has announced its layer, and so keeps the link.
	signalKept
	// signalSeparate: the probe did not arrive.
	signalSeparate
	// signalSameLayer: the probe arrived.
	signalSameLayer
	// signalChosen: the link becomes the source of its peer's layer.
	signalChosen
	// signalReleased: the link is no longer the source.
	signalReleased
	// signalConfirmed: the peer has confirmed the interest with which the link was chosen, but not all later changes.
	signalConfirmed
	// signalConfirmedAll: the peer has confirmed every change of interest.
	signalConfirmedAll
	// signalOverdue: a client's subscription has waited for a confirmation in vain.
	signalOverdue
	// signalRetired: another link to the same node takes over.
	signalRetired
	// signalEnded: the connection has ended.
	signalEnded

	signals // the number of signals
)

// transitions lists the phases that a signal changes, with the phase that follows. Any other phase ignores the signal.
var transitions = [signals]map[phase]phase{
	signalPython:    {phaseHandshake: phaseProbing},
	signalDialed:    {phaseHandshake: phaseStandby},
	signalAccepted:  {phaseHandshake: phaseTentative},
	signalKept:      {phaseTentative: phaseStandby},
	signalSeparate:  {phaseProbing: phaseSeparate},
	signalSameLayer: {phaseProbing: phaseSameLayer, phaseSeparate: phaseSameLayer},
	signalChosen:    {phaseStandby: phaseAsked},
	signalReleased: {
		phaseAsked: phaseStandby, phaseLate: phaseStandby, phaseSource: phaseStandby,
	},
	signalConfirmed:    {phaseAsked: phaseSource},
	signalConfirmedAll: {phaseAsked: phaseSource, phaseLate: phaseSource},
	signalOverdue:      {phaseAsked: phaseLate, phaseSource: phaseLate},
	signalRetired: {
		phaseStandby: phaseRetired, phaseAsked: phaseRetired, phaseLate: phaseRetired, phaseSource: phaseRetired,
	},
}

// next returns the phase that follows p on a signal.
func (p phase) next(s signal) phase {
	if s == signalEnded {
		return phaseEnded
	}
	if to, ok := transitions[s][p]; ok {
		return to
	}
	return p
}

// isSource reports whether the peer, a relay, sends this node the events of its channel layer.
func (p phase) isSource() bool { return p == phaseAsked || p == phaseLate || p == phaseSource }

// isRelay reports whether the link stands between two relays that both want to keep it.
func (p phase) isRelay() bool { return p == phaseStandby || p.isSource() }

// flow returns the treatment of events that are queued for the peer.
func (p phase) flow() flow {
	switch p {
	case phaseProbing:
		return flowHeld
	case phaseSameLayer, phaseEnded:
		return flowClosed
	}
	return flowOpen
}

// phase returns the current phase.
func (l *link) phase() phase { return phase(l.phaseNow.Load()) }

// move applies a signal, and returns the phase before it.
func (l *link) move(s signal) (before phase) {
	for {
		before = l.phase()
		after := before.next(s)
		if !l.phaseNow.CompareAndSwap(int32(before), int32(after)) {
			continue
		}
		if after != before {
			l.queue.setFlow(after.flow())
			if b := l.backlog.Load(); b != nil && after == phaseSameLayer { // the peer has the events from the layer
				b.queue.forget()
			}
		}
		return before
	}
}
