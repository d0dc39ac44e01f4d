package settings

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// DurationOrOff is a duration that can be switched off. In JSON and in a Caddyfile that is written "off".
type DurationOrOff caddy.Duration

// Off is the value of a [DurationOrOff] that is off.
const Off = DurationOrOff(-time.Second)

// UnmarshalJSON reads what [caddy.Duration] reads, or "off".
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

// MarshalJSON writes "off", or nanoseconds as [caddy.Duration] does.
func (d DurationOrOff) MarshalJSON() ([]byte, error) {
	if d < 0 {
		return []byte(`"off"`), nil
	}
	return json.Marshal(time.Duration(d))
}
