package pluginhost

import (
	"encoding/json"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// unmarshal reads
//
//	plugin <name> <file> {
//		groups        <pattern>...
//		config        <JSON>
//		on_error      withhold|pass|drop|last_good
//		grant         emit|metrics|kv|clock...
//		memory        <size>
//		fuel          <units>
//		fuel_per_byte <units>
//		timeout       <duration>
//		instances     <number>
//		max_result    <size>
//		json
//		kv            <size>
//		max_failures  <number>
//		cooldown      <duration>
//		samples       <file>
//		shadow        [<plugin>]
//	}
func (p *Plugin) Unmarshal(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&p.Name, &p.File) {
		return d.Err("plugin needs a name and a file, as in: plugin redact ./redact.wasm")
	}
	for d.NextBlock(1) {
		if err := p.unmarshalSetting(d); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plugin) unmarshalSetting(d *caddyfile.Dispenser) error {
	name, args := d.Val(), d.RemainingArgs()
	switch name { // those that do not take exactly one value
	case "groups", "grant":
		if len(args) == 0 {
			return d.Errf("%s needs at least one value", name)
		}
		if name == "groups" {
			p.Groups = append(p.Groups, args...)
		} else {
			p.Grants = append(p.Grants, args...)
		}
		return nil
	case "json":
		p.JSON = true
		if len(args) > 0 {
			return d.Err("json takes no value")
		}
		return nil
	case "shadow":
		p.Shadow = true
		if len(args) > 1 {
			return d.Err("shadow takes the name of one plugin, or nothing")
		}
		if len(args) == 1 {
			p.ShadowOf = args[0]
		}
		return nil
	}
	if len(args) != 1 {
		if name == "config" {
			return d.Err("config takes one value; put the JSON between backticks")
		}
		return d.Errf("%s takes one value", name)
	}
	value := args[0]
	var err error
	switch name {
	case "config":
		if !json.Valid([]byte(value)) {
			return d.Err("config is not JSON; put it between backticks, as in: config `{\"words\": [\"password\"]}`")
		}
		p.Config = json.RawMessage(value)
	case "on_error":
		p.OnError = value
	case "memory":
		p.Memory, err = settings.Size(value, settings.MaxSize)
	case "fuel":
		p.Fuel, err = strconv.ParseInt(value, 10, 64)
	case "fuel_per_byte":
		var units int64
		units, err = strconv.ParseInt(value, 10, 64)
		p.FuelPerByte = &units
	case "timeout":
		p.Timeout, err = settings.Duration(value)
	case "instances":
		p.Instances, err = strconv.Atoi(value)
	case "max_result":
		p.MaxResult, err = bufferSize(value)
	case "kv":
		p.KV, err = bufferSize(value)
	case "max_failures":
		p.MaxFailures, err = strconv.Atoi(value)
	case "cooldown":
		var t caddy.Duration
		t, err = settings.Duration(value)
		p.Cooldown = t
	case "samples":
		p.Samples = value
	default:
		return d.Errf("plugin has no setting %q; it has groups, config, on_error, grant, memory, fuel, fuel_per_byte, timeout, instances, max_result, json, kv, max_failures, cooldown, samples and shadow", name)
	}
	if err != nil {
		return d.Errf("%s: %v", name, err)
	}
	return nil
}

func bufferSize(text string) (int, error) {
	n, err := settings.Size(text, settings.MaxBuffer)
	return int(n), err
}
