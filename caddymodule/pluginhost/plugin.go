package pluginhost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/plugins"
)

// Plugin is a WebAssembly module that filters and transforms the events of some groups. Events go through the plugins in
// the order in which they are configured. What is left out has its default.
type Plugin struct {
	// Name identifies the plugin in logs, metrics and the admin API: 1 to 64 letters, digits, '-' and '_'.
	Name string `json:"name"`
	// File is the module, a .wasm file. A change of it is picked up. Placeholders such as {env.PLUGINS} are replaced.
	File string `json:"file"`
	// Groups are patterns of group names; "*" stands for any run of characters.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..."`
	// Config is what the plugin gets as its configuration, any JSON.
	Config json.RawMessage `json:"config,omitempty" caddyfile:"<json>" example:"'{\"words\": [\"password\"]}'"`
	// OnError says what becomes of an event that the plugin cannot process, because it fails or its breaker is open:
	// "withhold" (it is not delivered; clients are told by the channel layer's resync, if that is set), "pass" (it goes
	// on as it came: for plugins that guard nothing), "drop" (as withhold, without a word) or "last_good" (the version
	// that ran before decides, or else withhold). Default: "withhold". A failing on_subscribe always denies.
	OnError string `json:"on_error,omitempty" caddyfile:"withhold|pass|drop|last_good"`
	// Grants are what the plugin may use besides its log and configuration: emit, metrics, kv, clock.
	Grants []string `json:"grant,omitempty" caddyfile:"emit|metrics|kv|clock..."`
	// Memory bounds the memory of one instance, in bytes. Default: 32 MiB.
	Memory int64 `json:"memory,omitempty" caddyfile:"<size>"`
	// Fuel bounds the work of one call: about one unit for each loop round and function call. Default: 1000000.
	Fuel int64 `json:"fuel,omitempty" caddyfile:"<units>"`
	// FuelPerByte is what each byte of an event adds to Fuel. Default: 64; 0 with Timeout.
	FuelPerByte *int64 `json:"fuel_per_byte,omitempty" caddyfile:"<units>"`
	// Timeout is Fuel as a time, roughly; only one of the two may be set. It does not grow with the event.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>"`
	// Instances is how many run side by side. Default: the number of processors.
	Instances int `json:"instances,omitempty" caddyfile:"<number>"`
	// MaxResult bounds what one call may return, in bytes. Default: 1 MiB, or eight times the event if that is more.
	MaxResult int `json:"max_result,omitempty" caddyfile:"<size>"`
	// JSON demands that results are JSON. Default: any UTF-8.
	JSON bool `json:"json,omitempty" caddyfile:"-"`
	// KV bounds the plugin's key-value store, in bytes. Default: 1 MiB.
	KV int `json:"kv,omitempty" caddyfile:"<size>"`
	// MaxFailures opens the circuit breaker of a hook and group when so many more calls failed there than succeeded.
	// Events that are too large or run out of fuel do not count. Default: 5.
	MaxFailures int `json:"max_failures,omitempty" caddyfile:"<number>"`
	// Cooldown is how long an open circuit breaker suspends calls before a trial call. Default: 5s; doubled after each
	// failed trial, up to 32 times.
	Cooldown caddy.Duration `json:"cooldown,omitempty" caddyfile:"<duration>"`
	// Samples is a file of events, one JSON object a line ({"group", "payload", "verdict", "output"}), that a module must
	// get right before it runs. A change of it is picked up.
	Samples string `json:"samples,omitempty" caddyfile:"<file>"`
	// Shadow lets the plugin run without effect; how its verdicts differ is counted.
	Shadow bool `json:"shadow,omitempty" caddyfile:"[<plugin>]"`
	// ShadowOf is the plugin to compare a shadow with, whose events it then sees. Default: compare with letting all pass.
	ShadowOf string `json:"shadow_of,omitempty"`

	path, samples string    // with placeholders replaced
	sampled       fileState // of the samples that spec has
	spec          plugins.Spec
}

// Provision checks the settings and derives the plugin's spec, without the module.
func (p *Plugin) Provision() (err error) {
	fail := func(err error) error { return fmt.Errorf("edgerelay: plugin %s: %w", p.Name, err) }
	repl := caddy.NewReplacer()
	if p.path, err = repl.ReplaceOrErr(p.File, true, true); err != nil {
		return fail(err)
	}
	if p.path == "" {
		return fail(errors.New("it needs a file, as in: plugin redact ./redact.wasm"))
	}
	if p.path, err = filepath.Abs(p.path); err != nil {
		return fail(err)
	}
	if p.Fuel != 0 && p.Timeout != 0 {
		return fail(errors.New("fuel and timeout are one limit in two units: set one of them"))
	}
	fuel, perByte := p.Fuel, int64(0)
	if p.Timeout != 0 {
		fuel, perByte = plugins.FuelFor(time.Duration(p.Timeout)), -1
	}
	if p.FuelPerByte != nil {
		if perByte = *p.FuelPerByte; perByte < 0 {
			return fail(errors.New("fuel_per_byte is negative: set 0 for a budget that does not grow with the event"))
		}
		if perByte == 0 {
			perByte = -1
		}
	}
	p.spec = plugins.Spec{
		Name: p.Name, Groups: p.Groups, Config: p.Config, OnError: plugins.OnError(p.OnError),
		Memory: p.Memory, Fuel: fuel, FuelPerByte: perByte, Instances: p.Instances, MaxResult: p.MaxResult, JSON: p.JSON,
		KV:          p.KV,
		MaxFailures: p.MaxFailures, Cooldown: time.Duration(p.Cooldown), Shadow: p.Shadow, ShadowOf: p.ShadowOf,
	}
	for _, g := range p.Grants {
		p.spec.Grants = append(p.spec.Grants, plugins.Grant(g))
	}
	if len(p.Groups) == 0 && p.ShadowOf == "" {
		return fail(errors.New("it needs groups, as in: groups job_events-*"))
	}
	if p.Samples != "" {
		if p.samples, err = repl.ReplaceOrErr(p.Samples, true, true); err != nil {
			return fail(err)
		}
		p.sampled, _ = stateOf(p.samples) // before it is read: a later state is looked at again
		if p.spec.Samples, err = readSamples(p.samples); err != nil {
			return fail(err)
		}
	}
	return nil
}

// readSamples reads a file of golden samples.
func readSamples(name string) (samples []plugins.Sample, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bufio.NewReader(bytes.NewReader(b)))
	dec.DisallowUnknownFields()
	for {
		var s plugins.Sample
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF):
			return samples, nil
		case err != nil:
			return nil, fmt.Errorf("%s: sample %d: %w", name, len(samples)+1, err)
		}
		samples = append(samples, s)
	}
}
