package reconcile

// Phase is the known state of an entry at the destination.
type Phase uint8

const (
	// Absent means that the destination does not hold the entry.
	Absent Phase = iota
	// Uncertain means that a command may or may not have been executed.
	Uncertain
	// Placed means that the destination holds the entry.
	Placed
	// Faulty means that the destination rejects this entry, for a reason that concerns no other entry.
	Faulty
	// Placing, Checking, Refreshing, Removing and Examining mean that a command is in flight.
	Placing
	Checking
	Refreshing
	Removing
	Examining
)

// InFlight reports whether a command is not answered yet.
func (p Phase) InFlight() bool { return p >= Placing }

// Action is the next command for an entry.
type Action uint8

const (
	// Nothing is the action of a settled entry, or of an entry with a command in flight.
	Nothing Action = iota
	// Place adds the entry.
	Place
	// Check asks whether a placed entry is still there.
	Check
	// Refresh writes a placed entry again, before the entry expires, and must not add an entry that is gone.
	Refresh
	// Remove deletes the entry.
	Remove
	// Examine asks whether a faulty entry can be placed now.
	Examine
	// forget ends an entry that is neither wanted nor placed.
	forget
)

// Outcome is how a command ended.
type Outcome uint8

const (
	// Done means that the command succeeded: the entry was placed, is still there, was written again, was removed, or
	// can be placed.
	Done Outcome = iota
	// Missing is the answer to a check or a refresh that did not find the entry.
	Missing
	// Failed means that the destination failed. The command may or may not have been executed.
	Failed
	// Unsent means that the command was certainly not executed.
	Unsent
	// Unknowable means that a check cannot be answered. The entry is refreshed instead.
	Unknowable
	// Rejected means that the destination rejects this entry and works for others.
	Rejected
)

// next returns the action that an entry needs. doubted is whether a placed entry has to be checked, or a faulty
// entry examined; expiring is whether a placed entry has to be written again.
func next(p Phase, wanted, doubted, expiring bool) Action {
	switch {
	case p.InFlight():
		return Nothing
	case !wanted && p == Absent:
		return forget
	case !wanted:
		return Remove
	case p == Absent, p == Uncertain:
		return Place
	case p == Placed && expiring:
		return Refresh
	case !doubted:
		return Nothing
	case p == Faulty:
		return Examine
	}
	return Check
}

// begin returns the phase while an action is in flight.
func begin(a Action) Phase {
	switch a {
	case Place:
		return Placing
	case Check:
		return Checking
	case Refresh:
		return Refreshing
	case Remove:
		return Removing
	}
	return Examining
}

// end returns the phase after the command of phase p, and whether the action has to be repeated.
func end(p Phase, o Outcome) (after Phase, repeat bool) {
	switch p {
	case Placing:
		switch o {
		case Done:
			return Placed, false
		case Rejected:
			return Faulty, false
		case Unsent:
			return Absent, false
		}
		return Uncertain, false
	case Checking, Refreshing: // Only these can tell that the entry was gone, so a failure must not lead to Placing.
		switch o {
		case Done:
			return Placed, false
		case Missing:
			return Absent, false
		case Rejected:
			return Faulty, false
		}
		return Placed, true
	case Removing:
		switch o {
		case Failed, Unsent:
			return Uncertain, false
		}
		return Absent, false
	case Examining:
		switch o {
		case Done:
			return Uncertain, false
		case Failed, Unsent:
			return Faulty, true
		}
		return Faulty, false
	}
	return p, false
}
