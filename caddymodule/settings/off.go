package settings

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// DurationOrOff is a duration that can be switched off, written "off" in JSON and in a Caddyfile.
type DurationOrOff caddy.Duration

// Off is the value of a [DurationOrOff] that is off.
const Off = DurationOrOff(-time.Second)

// UnmarshalJSON implements [json.Unmarshaler] for "off" and the values of [caddy.Duration].
func (d *DurationOrOff) UnmarshalJSON(b []byte) error {
	if string(b) == `"off"` {
		*d = Off
		return nil
	}
	var t caddy.Duration
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	if t < 0 {
		return fmt.Errorf("invalid duration %s; use a value such as \"30s\", or \"off\"", b)
	}
	*d = DurationOrOff(t)
	return nil
}

// MarshalJSON implements [json.Marshaler]. The result is "off", or nanoseconds as for [caddy.Duration].
func (d DurationOrOff) MarshalJSON() ([]byte, error) {
	if d < 0 {
		return []byte(`"off"`), nil
	}
	return json.Marshal(time.Duration(d))
}
