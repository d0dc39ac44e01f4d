// Package settings reads the settings of a Caddyfile into structs, as described by the tags of the fields. The package
// bounds all sizes and durations, so that later arithmetic cannot overflow.
package settings

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
)

// maxBuffer is the greatest size of a buffer in memory: 2 GiB minus one byte.
const maxBuffer = math.MaxInt32

// maxSize is the greatest of all other sizes: 1 EiB.
const maxSize = 1 << 60

// maxDuration is the greatest duration, about 27 years: three times this duration can be added to any time.
const maxDuration = 10_000 * 24 * time.Hour

// ParseSize parses a number of bytes, such as 64KiB. A size above limit bytes is an error.
func ParseSize(text string, limit int64) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("invalid size %q; use a value such as 64KiB", text)
	}
	if n > uint64(limit) {
		return 0, tooLarge(text, limit)
	}
	return int64(n), nil
}

func tooLarge(size string, limit int64) error {
	most := humanize.IBytes(uint64(limit)) + " at most"
	if limit == maxBuffer {
		most = "less than 2 GiB"
	}
	return fmt.Errorf("size %s is too large; use %s", size, most)
}

// ParseDuration parses a duration in Caddy's syntax. A bare number is seconds, as in Python's settings. A negative
// duration is an error.
func ParseDuration(text string) (caddy.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n >= 0 && n <= math.MaxInt32) { // true for NaN
			return 0, fmt.Errorf("invalid duration %q; use a value such as 30s, 5m or 1d", text)
		}
		return bounded(time.Duration(n * float64(time.Second)))
	}
	d, err := caddy.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("invalid duration %q; use a value such as 30s, 5m or 1d", text)
	}
	return bounded(d)
}

func bounded(d time.Duration) (caddy.Duration, error) {
	if d > maxDuration {
		return 0, fmt.Errorf("duration %v is too long; use %dd at most", d, maxDuration/(24*time.Hour))
	}
	return caddy.Duration(d), nil
}
