//go:build !wasm

package edgerelay

import (
	"regexp"
	"unicode/utf8"
)

var (
	groupName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,99}$`)
	metricName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)
	// A token of 22 characters ends with four bits 0. One of 24 characters has other bits than 0 behind the first 128.
	positionToken = regexp.MustCompile(`^[A-Za-z0-9_-]{21}([AQgw]|[A-Za-z0-9_-]{3})$`)
	partZero      = regexp.MustCompile(`^A*$|^.{21}[AQgw]AA$`)
)

// validPosition reports whether a text is a token of a position.
func validPosition(token string) bool {
	return positionToken.MatchString(token) && !partZero.MatchString(token)
}

// Limits of emitted events.
const (
	maxEmits = 16 // in one call
	maxHops  = 4  // from group to group
)

func (h *Host) emit(group string, payload []byte, mask uint64, position string) int32 {
	h.need("emit")
	if h.hook != hookEvent && h.hook != hookTick {
		return 0
	}
	other := group != "" && group != h.group
	switch {
	case group == "" && h.hook == hookTick:
		return int32(ErrName)
	case len(h.emitted) >= maxEmits:
		return int32(ErrTooMany)
	case len(payload) > h.limit:
		return int32(ErrTooLong)
	case other && h.Hops >= maxHops && h.hook == hookEvent:
		return int32(ErrHops)
	case other && !groupName.MatchString(group), !utf8.Valid(payload):
		return int32(ErrName)
	}
	if !other {
		group = ""
	}
	h.emitted = append(h.emitted, Emission{group, string(payload), mask, position})
	return 0
}

func (h *Host) count(name string, delta int64) int32 {
	h.need("metrics")
	if delta < 0 || !metricName.MatchString(name) {
		return -1
	}
	if _, ok := h.Metrics[name]; !ok && len(h.Metrics) >= 32 {
		return -2
	}
	if h.Metrics == nil {
		h.Metrics = map[string]int64{}
	}
	h.Metrics[name] += delta
	return 0
}
