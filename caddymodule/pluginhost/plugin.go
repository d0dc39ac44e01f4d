package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
	"github.com/edgerelay/edgerelay/relay/outbound"
)

// Plugin is a WebAssembly module that filters and transforms the events of some groups. Events pass the plugins in the
// order of the configuration.
type Plugin struct {
	// Name identifies the plugin in logs, metrics and the admin API: 1 to 64 letters, digits, '-' and '_'.
	Name string `json:"name"`
	// File is the module, a .wasm file, or an artifact of a registry with its digest: oci://registry/repository@sha256:….
	// Changes of a file apply without a reload. Placeholders such as {env.PLUGINS} are replaced.
	File string `json:"file"`
	// Groups are patterns of group names; "*" stands for any run of characters.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..."`
	// Join are the groups that the plugin may make clients of its routes join. Default: groups.
	Join []string `json:"join,omitempty" caddyfile:"<pattern>..."`
	// Publish are the groups to which the plugin may publish on all nodes. Default: groups.
	Publish []string `json:"publish,omitempty" caddyfile:"<pattern>..."`
	// Config is the plugin's configuration, any JSON. Placeholders {env.NAME} and {file./path} in its strings are
	// replaced when the module is loaded, so that secrets stay out of the configuration.
	Config json.RawMessage `json:"config,omitempty" caddyfile:"<json>" example:"'{\"words\": [\"password\"]}'"`
	// OnError is the policy for events that the plugin cannot process, because the plugin fails or the circuit breaker
	// is open. "withhold" does not deliver the event; clients get the channel layer's resync, if configured. "drop"
	// does not deliver the event either, but sends no resync. "pass" passes the event unchanged: for plugins that guard
	// no secrets. "last_good" lets the previous module decide, and withholds the event if that is impossible. Default:
	// "withhold". A failing on_subscribe always denies.
	OnError string `json:"on_error,omitempty" caddyfile:"withhold|pass|drop|last_good"`
	// Grants are the capabilities besides log and configuration: emit, metrics, kv, clock, tick, shared, alarms. An
	// interval may follow tick, as in "grant kv tick 1s".
	Grants []string `json:"grant,omitempty" caddyfile:"emit|metrics|kv|clock|tick|shared|alarms..."`
	// Tick is the interval at which ev_on_tick is called on each instance, 10ms to 1h. It needs the grant tick.
	// Default: 1s.
	Tick caddy.Duration `json:"tick,omitempty"`
	// Fetch lets the plugin make HTTP requests. It is a grant of its own.
	Fetch *Fetch `json:"fetch,omitempty" caddyfile:"<address>... { … }"`
	// Watch names groups, among those of Groups, that this node is a member of even if no client is: the plugin gets
	// their events without open browsers. Every node processes them; requests with "once" are made by one node.
	Watch []string `json:"watch,omitempty" caddyfile:"<group>..." example:"jobs-status_changed"`
	// Memory bounds the memory of an instance, in bytes. Default: 32 MiB.
	Memory int64 `json:"memory,omitempty" caddyfile:"<size>" min:"1"`
	// Fuel is the instruction budget of a call: about one unit per loop iteration and function call. Default: 1000000, or
	// if Timeout is set, more than fits into it.
	Fuel int64 `json:"fuel,omitempty" caddyfile:"<units>" min:"1"`
	// FuelPerByte is the number of units that each byte of an event adds to Fuel. Default: 64.
	FuelPerByte *int64 `json:"fuel_per_byte,omitempty" caddyfile:"<units>"`
	// Timeout is how long a call may run. A call that waits for the processor may take up to ten times as long.
	// Default: 50ms, and a microsecond for each byte of the event.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// InitTimeout is how long the start of an instance may run. Default: 1s.
	InitTimeout caddy.Duration `json:"init_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Instances is the number of instances that run side by side. Default: the number of processors.
	Instances int `json:"instances,omitempty" caddyfile:"<number>" min:"1"`
	// MaxResult bounds the result of a call, in bytes. Default: 1 MiB, or eight times the event if that is more.
	MaxResult int `json:"max_result,omitempty" caddyfile:"<size>" min:"1"`
	// JSON requires results to be JSON. Default: any UTF-8.
	JSON bool `json:"json,omitempty" caddyfile:"-"`
	// KV bounds the plugin's key-value store, in bytes. Default: 1 MiB.
	KV int `json:"kv,omitempty" caddyfile:"<size>" min:"1"`
	// MaxFailures opens the circuit breaker of a hook and group when this many more calls failed there than succeeded.
	// The breaker also opens when half of the last 20 or more calls within a minute failed. Events that are too large or
	// run out of fuel do not count. Default: 5.
	MaxFailures int `json:"max_failures,omitempty" caddyfile:"<number>" min:"1"`
	// Cooldown is how long an open circuit breaker suspends calls before a trial call. Default: 5s; doubled after each
	// failed trial, up to 32 times.
	Cooldown caddy.Duration `json:"cooldown,omitempty" caddyfile:"<duration>" min:"1"`
	// Queue bounds the events that wait for the plugin, in bytes. Further events are dropped. Default: 128 MiB, or an
	// eighth of the process's memory limit if that is less.
	Queue int `json:"queue,omitempty" caddyfile:"<size>" min:"1"`
	// QueueAge is how long an event may wait for the plugin. An event whose turn comes later is dropped, so that a plugin
	// that fell behind catches up. Default: 10s.
	QueueAge caddy.Duration `json:"queue_age,omitempty" caddyfile:"<duration>" min:"1"`
	// Samples is a file of inputs of the plugin's hooks with the expected results, a JSON object per line: golden
	// samples. A module that fails a sample is rejected. Changes of the file apply without a reload.
	Samples string `json:"samples,omitempty" caddyfile:"<file>"`
	// Keys are names of keys, see plugin_key. The module needs a signature by one of them. Default: all keys.
	Keys []string `json:"keys,omitempty" caddyfile:"<name>..."`
	// Shadow runs the plugin without effect. Metrics count the verdicts that differ.
	Shadow bool `json:"shadow,omitempty" caddyfile:"[<plugin>]"`
	// ShadowOf is the plugin to compare a shadow with. Both then process the same events. Default: a comparison with
	// passing every event.
	ShadowOf string `json:"shadow_of,omitempty"`

	path, samples string // placeholders replaced
	// ref is the artifact that File names, nil for a file. path is then where the module is kept.
	ref     *oci.Reference
	sampled fileState // of the file from which spec.Samples were read
	spec    plugins.Spec
	// requests is the policy of Fetch.
	requests outbound.Policy
	// loading limits the compilation of the module.
	loading plugins.Limits
	// keys are the keys of which one must have signed the module; none accepts every module. trust identifies them.
	keys  artifact.Keys
	trust string
	// refused are modules that [Check] has refused, so that the start that follows does not compile them again.
	refused memory
}

// Provision checks the settings, reads the samples, and derives the plugin's spec, without the module.
func (p *Plugin) Provision() error {
	err := p.provision()
	if err == nil && p.Samples != "" {
		err = p.provisionSamples()
	}
	if err != nil {
		return fmt.Errorf("edgerelay: plugin %s: %w", p.Name, err)
	}
	return nil
}

// SetLoading sets the limits for the compilation of the module.
func (p *Plugin) SetLoading(limits plugins.Limits) { p.loading = limits }

func (p *Plugin) provisionSamples() (err error) {
	if p.samples, err = placeholders.Replace(p.Samples); err != nil {
		return err
	}
	// Before the read, so that a change during the read is noticed later.
	p.sampled, _ = stateOf(p.samples)
	p.spec.Samples, err = readSamples(p.samples)
	return err
}

// provision checks the settings and derives the plugin's spec, without module and samples.
func (p *Plugin) provision() (err error) {
	if p.path, err = placeholders.Replace(p.File); err != nil {
		return err
	}
	if p.path == "" {
		return errors.New("no file configured; add the module, as in: plugin redact ./redact.wasm")
	}
	if p.path, p.ref, err = resolveFile(p.path); err != nil {
		return err
	}
	perByte := int64(0)
	if p.FuelPerByte != nil {
		if perByte = *p.FuelPerByte; perByte < 0 {
			return errors.New("fuel_per_byte is negative; set 0 for a budget that does not grow with the event")
		}
		if perByte == 0 {
			perByte = -1
		}
	}
	p.spec = plugins.Spec{
		Name: p.Name, Groups: p.Groups, Join: p.Join, Publish: p.Publish, Config: p.Config, OnError: plugins.OnError(p.OnError),
		Memory: p.Memory, Fuel: p.Fuel, FuelPerByte: perByte, Timeout: time.Duration(p.Timeout),
		InitTimeout: time.Duration(p.InitTimeout), Instances: p.Instances, MaxResult: p.MaxResult,
		JSON: p.JSON, KV: p.KV, MaxFailures: p.MaxFailures, Cooldown: time.Duration(p.Cooldown),
		Tick: time.Duration(p.Tick), QueueBytes: p.Queue, QueueAge: time.Duration(p.QueueAge),
		Shadow: p.Shadow, ShadowOf: p.ShadowOf,
	}
	for _, g := range p.Grants {
		p.spec.Grants = append(p.spec.Grants, plugins.Grant(g))
	}
	p.spec.NeedsGroups = p.ShadowOf == ""
	if err := p.checkWatch(); err != nil {
		return err
	}
	if err := p.provisionFetch(); err != nil {
		return err
	}
	p.spec.Config, p.spec.Secrets, err = resolveSecrets(p.Config)
	return err
}

// sampleGroup is the group of samples that name none.
const sampleGroup = "test"

// readSamples reads a file of golden samples.
func readSamples(name string) ([]plugins.Sample, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	samples, err := plugins.ReadSamples(f, sampleGroup)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return samples, nil
}
