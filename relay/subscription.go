package relay

import "fmt"

// Change says what a subscribe message did to a session's groups.
type Change struct {
	Current, Left, Joined []string
}

// TooManyGroupsError refuses a subscription to more groups than the limits allow.
type TooManyGroupsError struct{ Wanted, Limit int }

// Error says how many were wanted and how many are allowed.
func (e TooManyGroupsError) Error() string {
	return fmt.Sprintf("too many groups: %d wanted, at most %d a connection", e.Wanted, e.Limit)
}
