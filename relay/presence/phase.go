package presence

// phase is how much a shard of this node knows about the store.
type phase uint8

const (
	// unregistered: the store may not know this node.
	unregistered phase = iota
	// comparing: the store knows this node, which does not know which of its members the store has.
	comparing
	// current: the store has this node's members, except those that wait to be written.
	current
)

// outcome is the result of a step.
type outcome uint8

const (
	// done: the step was made.
	done outcome = iota
	// refused: the store does not know the registration.
	refused
	// failed: the step may have been made or not.
	failed
)

// next returns the phase after a step. The step of unregistered is the registration, that of comparing the comparison,
// and that of current a change. Any uncertainty leads to a new registration and comparison, which repair everything.
func (p phase) next(o outcome) phase {
	switch {
	case o != done:
		return unregistered
	case p == unregistered:
		return comparing
	}
	return current
}

// String returns the phase's name in the status.
func (p phase) String() string {
	return [...]string{"unregistered", "comparing", "current"}[p]
}
