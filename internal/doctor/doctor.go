// Package doctor checks every stage of an event's path, from Redis to a browser. Each check is a function of the stage
// alone and returns a [Finding]: a fact in a sentence, and the remedy in the imperative if the fact is a fault.
package doctor

import "fmt"

// Level is the severity of a finding.
type Level string

// The levels, from best to worst.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Failure Level = "failure"
)

// Finding is the result of a check.
type Finding struct {
	// Check names the check.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Text is the fact, in a sentence.
	Text string `json:"text"`
	// Remedy is an instruction; empty at the level OK.
	Remedy string `json:"remedy,omitempty"`
	// Path has the measurements of the path to a peer; nil for other checks.
	Path *PathMeasure `json:"path,omitempty"`
}

func ok(check, format string, args ...any) Finding {
	return Finding{Check: check, Level: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(check, remedy, format string, args ...any) Finding {
	return Finding{Check: check, Level: Warning, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(check, remedy, format string, args ...any) Finding {
	return Finding{Check: check, Level: Failure, Text: fmt.Sprintf(format, args...), Remedy: remedy}
}
