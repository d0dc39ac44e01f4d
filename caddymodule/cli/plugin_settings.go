package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
)

// pluginSettings are the settings of a plugin that runs without a server, as flags.
type pluginSettings struct {
	config, group, onError, clock string
	grants, join, publish         []string
	fuel, fuelPerByte             int64
	memory, maxResult, kv         string
	requireJSON                   bool
	timeout, initTimeout, tick    time.Duration
}

// addFlags adds the flags to a command.
func (o *pluginSettings) addFlags(cmd *cobra.Command) {
	all := make([]string, len(plugins.Grants))
	for i, g := range plugins.Grants {
		all[i] = string(g)
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "configuration of the plugin: JSON, or @file")
	f.StringVar(&o.group, "group", "test", "group of lines that name none")
	f.StringSliceVar(&o.grants, "grant", all, "capabilities of the plugin; --grant '' for none")
	f.StringSliceVar(&o.join, "join", []string{"*"}, "patterns of the groups that clients may join")
	f.StringSliceVar(&o.publish, "publish", []string{"*"}, "patterns of the groups that the plugin may publish to")
	f.DurationVar(&o.timeout, "timeout", 0, "time of a call; default 50ms, and a microsecond for each byte of the event")
	f.DurationVar(&o.initTimeout, "init-timeout", 0, "time for the start of an instance; default 1s")
	f.DurationVar(&o.tick, "tick", 0, "interval of on_tick; default 1s")
	f.Int64Var(&o.fuel, "fuel", 0, fmt.Sprintf("fuel of a call; default %d, or more with --timeout", plugins.DefaultFuel))
	f.Int64Var(&o.fuelPerByte, "fuel-per-byte", defaultFuelPerByte,
		fmt.Sprintf("fuel that each byte of the event adds; default %d", plugins.DefaultFuelPerByte))
	f.Lookup("fuel-per-byte").DefValue = "0" // the help has the default in words
	f.StringVar(&o.memory, "memory", "", "memory of the instance, such as 64MiB; default 32MiB")
	f.StringVar(&o.maxResult, "max-result", "", "size of a result; default 1MiB, or eight times the event if that is more")
	f.StringVar(&o.kv, "kv", "", "size of the key-value store; default 1MiB")
	f.BoolVar(&o.requireJSON, "require-json", false, "require results to be JSON, as the setting json does")
	f.StringVar(&o.onError, "on-error", string(plugins.OnErrorWithhold), "policy for events that the plugin fails on")
	_ = f.SetAnnotation("on-error", allowedValues, []string{
		string(plugins.OnErrorWithhold), string(plugins.OnErrorPass), string(plugins.OnErrorDrop),
		string(plugins.OnErrorLastGood),
	})
	f.StringVar(&o.clock, "clock", "", "time that the plugin sees until a line has one: RFC 3339; default: the real time")
}

// defaultFuelPerByte stands for the default, since 0 is a value.
const defaultFuelPerByte = -1

// maxPluginSize bounds the sizes of a plugin's settings.
const maxPluginSize = 1 << 30

// spec returns the settings of the plugin in a file.
func (o *pluginSettings) spec(file string) (spec plugins.Spec, err error) {
	spec = plugins.Spec{
		Name: "test", Fuel: o.fuel, FuelPerByte: o.fuelPerByte, JSON: o.requireJSON, OnError: plugins.OnError(o.onError),
		Timeout: o.timeout, InitTimeout: o.initTimeout, Tick: o.tick,
		Join: o.join, Publish: o.publish,
	}
	switch o.fuelPerByte {
	case defaultFuelPerByte:
		spec.FuelPerByte = 0
	case 0:
		spec.FuelPerByte = -1 // none
	}
	config, err := readConfig(o.config)
	if err != nil {
		return spec, err
	}
	if spec.Config, spec.Secrets, err = pluginhost.ResolveConfig(config); err != nil {
		return spec, usageErrorf("--config: %w", err)
	}
	for _, g := range o.grants {
		if g != "" {
			spec.Grants = append(spec.Grants, plugins.Grant(g))
		}
	}
	var maxResult, kv int64
	for _, size := range []struct {
		flag, text string
		to         *int64
	}{{"memory", o.memory, &spec.Memory}, {"max-result", o.maxResult, &maxResult}, {"kv", o.kv, &kv}} {
		if size.text == "" {
			continue
		}
		if *size.to, err = settings.ParseSize(size.text, maxPluginSize); err != nil {
			return spec, usageErrorf("--%s: %w", size.flag, err)
		}
	}
	spec.MaxResult, spec.KV = int(maxResult), int(kv)
	spec.Wasm, err = readModule(file)
	return spec, err
}

// readConfig returns the JSON of the flag --config.
func readConfig(text string) (json.RawMessage, error) {
	if name, ok := strings.CutPrefix(text, "@"); ok {
		return readFile("configuration", name)
	}
	if text == "" {
		return nil, nil
	}
	return json.RawMessage(text), nil
}

// startClock returns the time of the flag --clock; zero is the real time.
func (o *pluginSettings) startClock() (t time.Time, err error) {
	if o.clock == "" {
		return t, nil
	}
	if t, err = time.Parse(time.RFC3339, o.clock); err != nil {
		return t, usageErrorf("--clock: invalid time %q; use RFC 3339, such as 2026-01-02T15:04:05Z", o.clock)
	}
	return t, nil
}
