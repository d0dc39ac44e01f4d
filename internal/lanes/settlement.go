package lanes

// settlePhase says whether the shard may hold events of groups whose lane is not the one of their current plugins.
// Later events of such a group must wait for the earlier ones.
type settlePhase uint8

const (
	shardSettled  settlePhase = iota // every group is in the lane of its plugins, and groups without plugins in none
	shardChanging                    // a change of the pipeline is in progress
	shardSettling                    // the changes are over, and groups from before are left
)

// settleEvent is an input of a settlement.
type settleEvent uint8

const (
	changeBegan settleEvent = iota
	changeEnded
	groupSettled // a group from before the last change has left, or is in the lane of its plugins
)

// settlement tracks the changes of the pipeline for a shard.
type settlement struct {
	phase     settlePhase
	changes   int // in progress
	unsettled int // while settling: groups from before the last change
}

// next returns the settlement after an event. groups is the number of groups that the shard holds. All changes of the
// phase happen here.
func (s settlement) next(event settleEvent, groups int) settlement {
	switch event {
	case changeBegan:
		return settlement{phase: shardChanging, changes: s.changes + 1}
	case changeEnded:
		if s.changes--; s.changes == 0 {
			s.phase, s.unsettled = shardSettling, groups
		}
	case groupSettled:
		if s.phase == shardSettling {
			s.unsettled--
		}
	}
	if s.phase == shardSettling && s.unsettled == 0 {
		s.phase = shardSettled
	}
	return s
}

// settle applies an event and keeps the count of unsettled shards. The caller holds the shard's lock.
func (s *shard) settle(event settleEvent) {
	before := s.settlement.phase
	s.settlement = s.settlement.next(event, len(s.groups))
	switch after := s.settlement.phase; {
	case before == shardSettled && after != shardSettled:
		s.lanes.unsettled.Add(1)
	case before != shardSettled && after == shardSettled:
		s.lanes.unsettled.Add(-1)
	}
}

// beginChange announces a change of the pipeline.
func (s *shard) beginChange() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(changeBegan)
}

// endChange ends a change. All groups in the shard are from before the change.
func (s *shard) endChange() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change++
	s.settle(changeEnded)
}

// settleGroup notes that a group from before the last change has left, or is in the lane of its plugins. The caller
// holds the shard's lock.
func (s *shard) settleGroup(g *group) {
	if s.settlement.phase == shardSettling && g.change != s.change {
		g.change = s.change
		s.settle(groupSettled)
	}
}
