package settings

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// DurationOrOff is a duration that can be switched off. JSON and a Caddyfile then have "off".
type DurationOrOff caddy.Duration

// Off is the value of a [DurationOrOff] that is off.
const Off = DurationOrOff(-time.Second)

// UnmarshalJSON implements [json.Unmarshaler]. It accepts the values of [caddy.Duration] and "off".
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

// MarshalJSON implements [json.Marshaler]. It writes "off", or nanoseconds like [caddy.Duration].
func (d DurationOrOff) MarshalJSON() ([]byte, error) {
	if d < 0 {
		return []byte(`"off"`), nil
	}
	return json.Marshal(time.Duration(d))
}
