// Package deflate compresses buffers of frames for clients that agreed on permessage-deflate (RFC 7692), once for all
// of them. A [Compressor] remembers the last message of each group, and makes a [Buffer] of each buffer of frames. The
// Buffer makes a form when the first client needs it.
// See docs/decisions/transport.md#why-is-an-event-compressed-for-everybody-at-once
package deflate

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/flate"
)

// Settings are the settings of a [Compressor].
type Settings struct {
	// MinSize is the length in bytes of the shortest message that is compressed, at least 1.
	MinSize int
	// Level is the effort, 1 (fast) to 9 (small).
	Level int
	// Exclude are patterns of the groups whose events are not compressed; "*" stands for any run of characters.
	Exclude []string
}

// Defaults of [Settings].
const (
	// DefaultMinSize leaves AWX's status events plain. A plain message leaves the client's window as it is, so that the
	// next event of the job is chained.
	DefaultMinSize = 512
	DefaultLevel   = 1
)

// Validate returns an error for settings out of range. It does not check the patterns.
func (s *Settings) Validate() error {
	switch {
	case s.MinSize < 1:
		return errors.New("min_size: the size is below 1; leave it out for 512 bytes")
	case s.Level < flate.BestSpeed || s.Level > flate.BestCompression:
		return fmt.Errorf("level: %d is out of range; use 1 (fast) to 9 (small)", s.Level)
	}
	return nil
}
