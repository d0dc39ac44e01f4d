package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// unmarshalObservation reads
//
//	trace_events <events>|off
//	awx_metrics on|off
func (a *App) unmarshalObservation(d *caddyfile.Dispenser) error {
	name, value := d.Val(), ""
	if !d.AllArgs(&value) {
		return d.ArgErr()
	}
	switch {
	case name == "awx_metrics" && (value == "on" || value == "off"):
		a.AWXMetrics = value == "on"
		return nil
	case name == "awx_metrics":
		return d.Errf("awx_metrics is on or off, not %q", value)
	case value == "off":
		a.TraceEvents = 0
		return nil
	}
	every, err := strconv.Atoi(value)
	if err != nil || every < 1 {
		return d.Errf("trace_events is how many events there are for each that is traced, such as 1000, or off; not %q", value)
	}
	a.TraceEvents = every
	return nil
}
