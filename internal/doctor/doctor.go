// Package doctor looks at everything that an event passes on its way, from Redis to a browser, and says in one line each what is
// wrong and what mends it. Each check is a function of its own, of the part that it looks at and nothing else.
package doctor

import "fmt"

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Failure Level = "failure"
)

// Finding is what a check has found.
type Finding struct {
	// Check names the check.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Text says in one line what is so, Remedy what to do about it.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

func ok(check, format string, args ...any) Finding {
	return Finding{check, OK, fmt.Sprintf(format, args...), ""}
}

func warn(check, remedy, format string, args ...any) Finding {
	return Finding{check, Warning, fmt.Sprintf(format, args...), remedy}
}

func fail(check, remedy, format string, args ...any) Finding {
	return Finding{check, Failure, fmt.Sprintf(format, args...), remedy}
}
