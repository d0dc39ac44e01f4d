package caddymodule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/relay/state"
)

// Functions configures what plugins share on all nodes: the state and the alarms of plugins with the grants shared and
// alarms.
type Functions struct {
	// State is the Redis that keeps the state and the alarms; several share the plugins among them. Default: the Redis of
	// the channel layer. With the channel layer memory, the state is in this process and ends with it.
	State []string `json:"state,omitempty" caddyfile:"<url>..." example:"redis://127.0.0.1:6379/1"`
	// StatePrefix begins the keys in the Redis of State, after "edgerelay:state:". Default: asgi.
	StatePrefix string `json:"state_prefix,omitempty" caddyfile:"<prefix>"`
	// StateBytes bounds the keys, values and alarms of each plugin together, in bytes; each has an overhead of 64 bytes.
	// Default: 64 MiB.
	StateBytes int64 `json:"state_bytes,omitempty" caddyfile:"<size>" min:"1"`
	// StateKeys bounds the number of each plugin's keys. Default: 100000.
	StateKeys int64 `json:"state_keys,omitempty" caddyfile:"<number>" min:"1"`
	// StateAlarms bounds the number of each plugin's alarms. Default: 100000.
	StateAlarms int64 `json:"state_alarms,omitempty" caddyfile:"<number>" min:"1"`
	// StateValue bounds a value, in bytes. Default: 64 KiB.
	StateValue int `json:"state_value,omitempty" caddyfile:"<size>" min:"1" max:"16MiB"`
	// StateTimeout is how long a request may take before the plugin is told that the state is unavailable. Default: 5s.
	StateTimeout caddy.Duration `json:"state_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// AlarmLease is how long an alarm stays with a node that has died while the plugin processed it; then the alarm fires
	// on another node. At least 3s: a node that does not reach Redis for so long has its alarms fire twice. Default: 30s.
	AlarmLease caddy.Duration `json:"alarm_lease,omitempty" caddyfile:"<duration>" min:"1"`
}

// minStateTimeout leaves time for two round trips.
const minStateTimeout = 100 * time.Millisecond

// maxAlarmLease bounds the time for which the alarms of a dead node wait.
const maxAlarmLease = time.Hour

// config checks the settings. A nil Functions has the defaults.
func (f *Functions) config() (c node.StateConfig, err error) {
	if f == nil {
		return c, nil
	}
	replaced := placeholders.New()
	for _, u := range f.State {
		c.Hosts.URLs = append(c.Hosts.URLs, replaced.In("state", u))
	}
	c.Prefix = f.StatePrefix
	c.Limits = state.Limits{
		Bytes: f.StateBytes, Keys: f.StateKeys, Alarms: f.StateAlarms, Value: f.StateValue,
		Timeout: time.Duration(f.StateTimeout), Lease: time.Duration(f.AlarmLease),
	}
	switch {
	case replaced.Err() != nil:
		err = replaced.Err()
	case len(f.State) > 0:
		err = c.Hosts.Validate()
	case f.StatePrefix != "":
		err = errors.New("state_prefix needs a Redis of its own; name it, as in: state redis://127.0.0.1:6379/1")
	}
	switch {
	case err != nil:
	case strings.ContainsAny(f.StatePrefix, " \r\n{}"):
		err = errors.New("state_prefix has spaces or braces; remove them")
	case f.StateTimeout != 0 && time.Duration(f.StateTimeout) < minStateTimeout:
		err = fmt.Errorf("state_timeout: invalid duration %v; use at least %v",
			time.Duration(f.StateTimeout), minStateTimeout)
	case f.AlarmLease != 0 && (c.Limits.Lease < state.MinLease || c.Limits.Lease > maxAlarmLease):
		err = fmt.Errorf("alarm_lease: invalid duration %v; use %v to %v", c.Limits.Lease, state.MinLease, maxAlarmLease)
	}
	if err != nil {
		err = fmt.Errorf("edgerelay: functions: %w", err)
	}
	return c, err
}
