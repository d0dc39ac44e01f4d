package relay

import "fmt"

// MaxClass is the greatest audience class; classes are bits of a 64-bit set.
const MaxClass = 63

// Subscription is a client's entry in a group.
type Subscription struct {
	// Group is the full group name.
	Group string
	// Class is the audience class, 0 to [MaxClass], that selects the rendering of each event; see [Redaction].
	Class uint8
	// Generation is the generation of Class, see [Classification].
	Generation uint64
	// Granted is set if the subscription needs no permission of the [Authorizer], and rechecks do not end it.
	Granted bool
	// Resume is not nil if a client that gets positions asks for earlier events. It counts when the subscription begins.
	Resume *Resume
}

// Groups returns subscriptions of class 0 to groups.
func Groups(names ...string) []Subscription {
	subs := make([]Subscription, len(names))
	for i, name := range names {
		subs[i].Group = name
	}
	return subs
}

// GroupNames returns the groups of subscriptions.
func GroupNames(subs []Subscription) []string {
	names := make([]string, len(subs))
	for i := range subs {
		names[i] = subs[i].Group
	}
	return names
}

// CheckClass returns an error for a class above [MaxClass].
func CheckClass(class uint8) error {
	if class > MaxClass {
		return fmt.Errorf("audience class %d does not exist; use a class from 0 to %d", class, MaxClass)
	}
	return nil
}

// Change is the effect of a subscribe message on a session's groups.
type Change struct {
	// Current are the groups after the change, Left and Joined the difference to the groups before.
	Current, Left, Joined []string
}

// TooManyGroupsError rejects a subscription to more groups than [Limits] allow.
type TooManyGroupsError struct{ Wanted, Limit int }

// Error states how many groups were wanted and how many are allowed. AWX's clients see the text.
func (e TooManyGroupsError) Error() string {
	return fmt.Sprintf("too many groups: %d wanted, at most %d a connection", e.Wanted, e.Limit)
}
