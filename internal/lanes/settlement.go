package lanes

// settlePhase says whether a lane may hold events of groups that the pipeline no longer matches. Later events of such
// a group must go through the lane as well, or they would overtake the earlier ones.
type settlePhase uint8

const (
	laneSettled  settlePhase = iota // the lane holds only events of groups with plugins
	laneChanging                    // a change of the pipeline is in progress
	laneSettling                    // the changes are over, and the lane has not been empty since
)

// settleEvent is an input of a settlement.
type settleEvent uint8

const (
	changeBegan settleEvent = iota
	changeEnded
	laneEmpty // the lane holds no event, neither queued nor with the worker
)

// settlement tracks the changes of the pipeline for a lane.
type settlement struct {
	phase   settlePhase
	changes int // in progress
}

// next returns the settlement after an event. All changes of the phase happen here.
func (s settlement) next(event settleEvent) settlement {
	switch event {
	case changeBegan:
		s.changes++
		s.phase = laneChanging
	case changeEnded:
		if s.changes--; s.changes == 0 {
			s.phase = laneSettling
		}
	case laneEmpty:
		if s.phase == laneSettling {
			s.phase = laneSettled
		}
	}
	return s
}

// settle applies an event and keeps the count of unsettled lanes. The caller holds the lane's lock.
func (l *lane) settle(event settleEvent) {
	before := l.settlement.phase
	l.settlement = l.settlement.next(event)
	switch after := l.settlement.phase; {
	case before == laneSettled && after != laneSettled:
		l.lanes.unsettled.Add(1)
	case before != laneSettled && after == laneSettled:
		l.lanes.unsettled.Add(-1)
	}
}

// beginChange announces a change of the pipeline.
func (l *lane) beginChange() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(changeBegan)
}

// endChange ends a change and wakes the worker: an empty lane settles at once.
func (l *lane) endChange() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(changeEnded)
	l.nonEmpty.Signal()
}
