package backplane

import "testing"

// Every phase ignores the signals that its row does not list.
func TestPhaseTransitions(t *testing.T) {
	table := map[phase]map[signal]phase{
		phaseHandshake: {
			signalPython: phaseProbing, signalDialed: phaseStandby, signalAccepted: phaseTentative,
			signalEnded: phaseEnded,
		},
		phaseProbing: {
			signalSeparate: phaseSeparate, signalSameLayer: phaseSameLayer, signalEnded: phaseEnded,
		},
		phaseSeparate:  {signalSameLayer: phaseSameLayer, signalEnded: phaseEnded},
		phaseSameLayer: {signalEnded: phaseEnded},
		phaseTentative: {signalKept: phaseStandby, signalEnded: phaseEnded},
		phaseStandby:   {signalChosen: phaseAsked, signalRetired: phaseRetired, signalEnded: phaseEnded},
		phaseAsked: {
			signalConfirmed: phaseSource, signalConfirmedAll: phaseSource, signalOverdue: phaseLate,
			signalReleased: phaseStandby, signalRetired: phaseRetired, signalEnded: phaseEnded,
		},
		phaseLate: {
			signalConfirmedAll: phaseSource, signalReleased: phaseStandby, signalRetired: phaseRetired, signalEnded: phaseEnded,
		},
		phaseSource: {
			signalOverdue: phaseLate, signalReleased: phaseStandby, signalRetired: phaseRetired, signalEnded: phaseEnded,
		},
		phaseRetired: {signalEnded: phaseEnded},
		phaseEnded:   {},
	}
	for p := range phases {
		row, ok := table[p]
		if !ok {
			t.Fatalf("the table lacks %v", p)
		}
		for s := range signals {
			want := p
			if to, ok := row[s]; ok {
				want = to
			}
			if got := p.next(s); got != want {
				t.Errorf("%v on signal %d: %v, want %v", p, s, got, want)
			}
		}
	}
}

func TestPhaseProperties(t *testing.T) {
	for p, want := range map[phase]struct {
		flow     flow
		isSource bool
	}{
		phaseHandshake: {flowOpen, false}, phaseProbing: {flowHeld, false}, phaseSeparate: {flowOpen, false},
		phaseSameLayer: {flowClosed, false}, phaseTentative: {flowOpen, false}, phaseStandby: {flowOpen, false},
		phaseAsked: {flowOpen, true}, phaseLate: {flowOpen, true}, phaseSource: {flowOpen, true},
		phaseRetired: {flowOpen, false}, phaseEnded: {flowClosed, false},
	} {
		if p.flow() != want.flow || p.isSource() != want.isSource {
			t.Errorf("%v: flow %d, source %v; want %+v", p, p.flow(), p.isSource(), want)
		}
	}
}

// The queue of a link follows its phase, and an ended link never opens again.
func TestQueueFollowsPhase(t *testing.T) {
	l := newTestLink(t)
	l.queue.push(&event{group: "a-1"})
	if _, events, _, _ := l.queue.next(nil, 1<<20); len(events) != 0 {
		t.Error("an event left before the verdict")
	}
	l.decide(signalSeparate)
	if _, events, _, _ := l.queue.next(nil, 1<<20); len(events) != 1 {
		t.Errorf("%d events left after the verdict, want 1", len(events))
	}
	l.move(signalEnded)
	l.decide(signalSameLayer)
	if l.phase() != phaseEnded || l.queue.flow != flowClosed {
		t.Errorf("%v, flow %d after the end", l.phase(), l.queue.flow)
	}
}

func TestHealthTransitions(t *testing.T) {
	table := map[health][healthSignals]health{
		// on      doubt, silence, life, replaced, swallowed
		healthy: {doubted, healthy, healthy, stalled, stalled},
		doubted: {doubted, stalled, healthy, stalled, stalled},
		stalled: {stalled, stalled, healthy, stalled, stalled},
	}
	for h := range healths {
		for s := range healthSignals {
			if got, want := h.next(s), table[h][s]; got != want {
				t.Errorf("%v on signal %d: %v, want %v", h, s, got, want)
			}
		}
	}
}

func TestOutboxTransitions(t *testing.T) {
	table := map[outboxPhase][outboxSignals]outboxPhase{
		// on             hold, flush, close, fail
		outboxDirect:  {outboxHeld, outboxDirect, outboxClosing, outboxFailed},
		outboxHeld:    {outboxHeld, outboxDirect, outboxClosing, outboxFailed},
		outboxClosing: {outboxClosing, outboxClosing, outboxClosing, outboxFailed},
		outboxFailed:  {outboxFailed, outboxFailed, outboxFailed, outboxFailed},
	}
	for p := range outboxPhases {
		for s := range outboxSignals {
			if got, want := p.next(s), table[p][s]; got != want {
				t.Errorf("phase %d on signal %d: %d, want %d", p, s, got, want)
			}
		}
	}
}
