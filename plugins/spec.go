package plugins

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// OnError is the policy for an event that its plugin could not process: the call failed, or the circuit breaker is
// open for the group.
// See docs/decisions/plugins.md#why-is-an-event-withheld-when-a-plugin-fails
type OnError string

// Policies. A failing on_subscribe denies, whatever the policy.
const (
	// OnErrorWithhold is the default, also for "". The event, or the view that a class gets of it, is not delivered,
	// and the function given to [Pipeline.OnWithheld] is called, so that clients can learn of the gap.
	OnErrorWithhold OnError = "withhold"
	// OnErrorPass passes the event unchanged. It is for plugins that guard no secret.
	OnErrorPass OnError = "pass"
	// OnErrorDrop is like OnErrorWithhold, without the call.
	OnErrorDrop OnError = "drop"
	// OnErrorLastGood gives the event to the previous module, if any call of that module has succeeded. Otherwise the
	// event is withheld.
	OnErrorLastGood OnError = "last_good"
)

// Grant is a capability of the host. A plugin has the grants that Spec lists.
type Grant string

// Grants. The host functions log, config, json_get, json_find and audience need none.
const (
	GrantEmit    Grant = "emit"    // emit events, also to other groups
	GrantMetrics Grant = "metrics" // count
	GrantKV      Grant = "kv"      // keep values between events, across instances
	GrantClock   Grant = "clock"   // read the time
	GrantTick    Grant = "tick"    // be called at an interval, see Spec.Tick
	GrantShared  Grant = "shared"  // keep values that all nodes share
	GrantAlarms  Grant = "alarms"  // be called at a time
	GrantFetch   Grant = "fetch"   // send HTTP requests, where the host's Services allow them
)

// Grants lists all grants, for error messages and documentation.
var Grants = []Grant{
	GrantEmit, GrantMetrics, GrantKV, GrantClock, GrantTick, GrantShared, GrantAlarms, GrantFetch,
}

// Spec describes one plugin: its module, groups, grants and limits. A zero value means the documented default.
type Spec struct {
	// Name identifies the plugin in logs, metrics and the admin API.
	Name string
	// Wasm is the module. The bytes must not change afterwards.
	Wasm []byte
	// Groups are patterns of group names; "*" stands for any run of characters. Without patterns the plugin sees no
	// event.
	Groups []string
	// NeedsGroups rejects a module without patterns, unless clients or alarms call it.
	NeedsGroups bool
	// Config is the JSON value that the host function config returns. Default: null.
	Config json.RawMessage
	// Secrets are texts within Config that the plugin's log lines, errors and reasons of denials must not show. Texts
	// of less than four bytes are not concealed.
	Secrets []string
	// OnError is the policy for events that the plugin could not process. Default: OnErrorWithhold.
	OnError OnError
	// Grants are the capabilities that the module may import, or export in the case of GrantTick.
	Grants []Grant
	// Tick is the interval at which on_tick is called on each instance, 10 ms to 1 h. Default with GrantTick: 1 s.
	Tick time.Duration
	// Join are the patterns of groups that the plugin may make clients join, and Publish those to which it may publish on
	// all nodes. Default of both: Groups.
	Join, Publish []string
	// Memory limits the linear memory of an instance, in bytes. Default: 32 MiB.
	Memory int64
	// Timeout is how long a call may run. The time does not count in which a call waits for the processor, up to ten
	// times Timeout. Default: 50 ms, and a microsecond for each byte of the call's input.
	Timeout time.Duration
	// InitTimeout is how long an instance's start function, _initialize, ev_init and first ev_buffer may run together.
	// Default: 1 s.
	InitTimeout time.Duration
	// Fuel is the budget of a call, in units, to which FuelPerByte adds. Default: 1,000,000, which lasts for some
	// milliseconds of instructions, or if Timeout is set, more than fits into it; see
	// docs/decisions/plugins.md#why-is-fuel-counted-by-rewriting-modules.
	Fuel int64
	// FuelPerByte is how many units each byte of the call's input adds to Fuel. Default: 64; negative: none.
	FuelPerByte int64
	// InitFuel is the budget of an instance's start function, _initialize, ev_init and first ev_buffer together. Default:
	// 20,000,000, or if InitTimeout is set, more than fits into it.
	InitFuel int64
	// Instances is the number of instances. All events of a group use the same one. Default: GOMAXPROCS.
	Instances int
	// MaxResult limits a call's result and each emitted event, in bytes. Default: 1 MiB, or eight times the call's
	// input if that is more.
	MaxResult int
	// JSON requires results to be valid JSON. They must be UTF-8 in any case.
	JSON bool
	// KV limits the plugin's key-value store, in bytes of keys and values. Default: 1 MiB.
	KV int
	// MaxFailures is how many more calls of a hook must fail than succeed in a group to open the circuit breaker there.
	// The breaker also opens when half of the last 20 or more calls within a minute failed. Events that are too large,
	// calls that run out of fuel and missing instances do not count. Default: 5.
	MaxFailures int
	// Cooldown is how long an open circuit breaker suspends calls before a trial call. It doubles with each failed
	// trial, up to 32 times. Default: 5 s.
	Cooldown time.Duration
	// QueueBytes limits the events that wait for the plugin, in bytes. Further events are dropped. Default: 128 MiB, or an
	// eighth of the process's memory limit if that is less.
	QueueBytes int
	// QueueAge is how long an event may wait for the plugin. An event whose turn comes later is dropped, so that a
	// plugin that fell behind catches up. Default: 10 s.
	QueueAge time.Duration
	// Samples are tried before a module becomes live. A module that fails one is rejected.
	Samples []Sample
	// Shadow runs the plugin without effect. Health counts how often the decisions differ from those of the plugin that
	// ShadowOf names, whose events it then sees, or from Pass.
	Shadow bool
	// ShadowOf names the plugin that a shadow is compared with, and replaces Groups.
	ShadowOf string
	// Trust identifies the rules by which the host accepts modules, such as the keys that sign them. A module that was
	// accepted by other rules is no fallback of OnErrorLastGood.
	Trust string

	// resultGrows tells that MaxResult is the default and grows with the input.
	resultGrows bool
	// timeoutGrows tells that Timeout is the default and grows with the input.
	timeoutGrows bool
}

// Defaults.
const (
	DefaultMemory      = 32 << 20
	DefaultFuel        = 1_000_000
	DefaultFuelPerByte = 64
	DefaultInitFuel    = 20_000_000
	DefaultTimeout     = 50 * time.Millisecond
	DefaultInitTimeout = time.Second
	timeoutGrowth      = time.Microsecond // per byte of the input
	defaultMaxResult   = 1 << 20
	resultGrowth       = 8 // times the input
	defaultKV          = 1 << 20
	defaultMaxFailures = 5
	defaultCooldown    = 5 * time.Second
	defaultQueueBytes  = 128 << 20
	defaultQueueAge    = 10 * time.Second
	defaultTick        = time.Second
)

// Limits of settings.
const (
	minTick          = 10 * time.Millisecond
	maxTick          = time.Hour
	maxNameLength    = 64
	maxPatternLength = 256
	maxModuleSize    = 16 << 20 // bytes of a .wasm file
	minMemory        = 64 << 10 // one page
	maxMemory        = 1 << 30
	maxConfig        = 1 << 20
	minTimeout       = time.Millisecond
	maxTimeout       = time.Hour
	maxFuel          = 1 << 50
	maxFuelPerByte   = 1 << 20
	maxInstances     = 1024
	maxMaxFailures   = 1 << 20
	maxCooldown      = 24 * time.Hour
	minQueueBytes    = 64 << 10
	minQueueAge      = 10 * time.Millisecond
	maxQueueAge      = time.Hour
)

// withDefaults checks a Spec and fills in the defaults. The error lists all faults.
func (s Spec) withDefaults() (Spec, error) {
	s.fillIn()
	faults := slices.Concat(s.checkNames(), s.checkContent(), s.checkLimits())
	if len(faults) > 0 {
		texts := make([]string, len(faults)) // on one line, as logs and commands show it
		for i, fault := range faults {
			texts[i] = fault.Error()
		}
		return s, fmt.Errorf("plugin %s: %s", s.Name, strings.Join(texts, "; "))
	}
	return s, nil
}

func (s *Spec) fillIn() {
	if s.OnError == "" {
		s.OnError = OnErrorWithhold
	}
	if s.Config == nil {
		s.Config = json.RawMessage("null")
	}
	setDefault(&s.Memory, DefaultMemory)
	// Before the times have their defaults: fuel must not end a call that may run for longer.
	setDefault(&s.Fuel, max(DefaultFuel, fuelWithin(s.Timeout)))
	setDefault(&s.InitFuel, max(DefaultInitFuel, fuelWithin(s.InitTimeout)))
	s.timeoutGrows = s.timeoutGrows || s.Timeout == 0
	setDefault(&s.Timeout, DefaultTimeout)
	setDefault(&s.InitTimeout, DefaultInitTimeout)
	setDefault(&s.FuelPerByte, DefaultFuelPerByte)
	setDefault(&s.Instances, runtime.GOMAXPROCS(0))
	s.resultGrows = s.resultGrows || s.MaxResult == 0 // a Spec with its defaults filled in may come here again
	setDefault(&s.MaxResult, defaultMaxResult)
	setDefault(&s.KV, defaultKV)
	setDefault(&s.MaxFailures, defaultMaxFailures)
	setDefault(&s.Cooldown, defaultCooldown)
	if s.granted(GrantTick) {
		setDefault(&s.Tick, defaultTick)
	}
	setDefault(&s.QueueBytes, queueBytes(debug.SetMemoryLimit(-1)))
	setDefault(&s.QueueAge, defaultQueueAge)
	if s.ShadowOf != "" {
		s.Shadow = true
	}
	if s.Join == nil {
		s.Join = s.Groups
	}
	if s.Publish == nil {
		s.Publish = s.Groups
	}
}

// queueBytes returns the default of QueueBytes under a memory limit.
// See docs/decisions/plugins.md#why-does-each-chain-of-plugins-have-queues-of-its-own
func queueBytes(memoryLimit int64) int {
	return int(min(defaultQueueBytes, max(minQueueBytes, memoryLimit/8)))
}

func (s *Spec) checkNames() (faults []error) {
	if s.Name == "" || len(s.Name) > maxNameLength || strings.ContainsFunc(s.Name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) {
		faults = append(faults, fmt.Errorf("invalid name; use 1 to %d letters, digits, - and _", maxNameLength))
	}
	switch s.OnError {
	case OnErrorWithhold, OnErrorPass, OnErrorDrop, OnErrorLastGood:
	default:
		faults = append(faults, fmt.Errorf("invalid on_error %q; use withhold, pass, drop or last_good", s.OnError))
	}
	for _, g := range s.Grants {
		if !slices.Contains(Grants, g) {
			faults = append(faults, fmt.Errorf("unknown grant %q; use some of %v", g, Grants))
		}
	}
	if s.Tick != 0 && !s.granted(GrantTick) {
		faults = append(faults, errors.New("a tick without its grant; add tick to the grants"))
	}
	for i, list := range [][]string{s.Groups, s.Join, s.Publish} {
		if i > 0 && slices.Equal(list, s.Groups) { // the default
			continue
		}
		for _, g := range list {
			if !validPattern(g) {
				faults = append(faults, fmt.Errorf("invalid group pattern %q in %s; use 1 to %d ASCII letters, digits, '-', '_' "+
					"and '.', with * for any characters", g, [...]string{"groups", "join", "publish"}[i], maxGroupName))
			}
		}
	}
	return faults
}

// validPattern reports whether a pattern can match the name of a group.
func validPattern(pattern string) bool {
	literal := strings.ReplaceAll(pattern, "*", "")
	return pattern != "" && len(pattern) <= maxPatternLength && (literal == "" || validGroupName([]byte(literal)))
}

func (s *Spec) checkContent() (faults []error) {
	switch {
	case len(s.Wasm) == 0:
		faults = append(faults, errors.New("the module is empty; give it a .wasm file"))
	case len(s.Wasm) > maxModuleSize:
		faults = append(faults, fmt.Errorf("the module has %d bytes, more than %d; "+
			"build it without debug information (Go: -ldflags=\"-s -w\")", len(s.Wasm), maxModuleSize))
	}
	if len(s.Config) > maxConfig || !json.Valid(s.Config) {
		faults = append(faults, fmt.Errorf("invalid config; use JSON of at most %d bytes", maxConfig))
	}
	return faults
}

func (s *Spec) checkLimits() (faults []error) {
	for _, l := range []struct {
		name             string
		value, low, high int64
	}{
		{"memory", s.Memory, minMemory, maxMemory},
		{"fuel", s.Fuel, 1, maxFuel},
		{"fuel_per_byte", s.FuelPerByte, -maxFuelPerByte, maxFuelPerByte},
		{"init fuel", s.InitFuel, 1, maxFuel},
		{"instances", int64(s.Instances), 1, maxInstances},
		{"max_result", int64(s.MaxResult), 1, maxMemory},
		{"kv", int64(s.KV), 1, maxMemory},
		{"max_failures", int64(s.MaxFailures), 1, maxMaxFailures},
		{"queue", int64(s.QueueBytes), minQueueBytes, maxMemory},
	} {
		if l.value < l.low || l.value > l.high {
			faults = append(faults, fmt.Errorf("invalid %s %d; use %d to %d", l.name, l.value, l.low, l.high))
		}
	}
	for _, l := range []struct {
		name             string
		value, low, high time.Duration
	}{
		{"timeout", s.Timeout, minTimeout, maxTimeout},
		{"init_timeout", s.InitTimeout, minTimeout, maxTimeout},
		{"cooldown", s.Cooldown, 1, maxCooldown},
		{"queue_age", s.QueueAge, minQueueAge, maxQueueAge},
		{"tick", cmp.Or(s.Tick, minTick), minTick, maxTick},
	} {
		if l.value < l.low || l.value > l.high {
			faults = append(faults, fmt.Errorf("invalid %s %v; use %v to %v", l.name, l.value, l.low, l.high))
		}
	}
	return faults
}

// fuelWithin returns more fuel than any module spends in a time.
func fuelWithin(d time.Duration) int64 { return int64(min(d, maxTimeout)/time.Microsecond) * 10_000 }

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// budget returns the fuel of a call with the given number of bytes of input.
func (s *Spec) budget(input int) int64 { return s.Fuel + max(0, s.FuelPerByte)*int64(input) }

// timeLimit returns how long a call with the given number of bytes of input may run.
func (s *Spec) timeLimit(input int) time.Duration {
	if s.timeoutGrows {
		return s.Timeout + timeoutGrowth*time.Duration(input)
	}
	return s.Timeout
}

// resultLimit returns how many bytes a call with the given number of bytes of input may return.
func (s *Spec) resultLimit(input int) int {
	if s.resultGrows {
		return max(s.MaxResult, resultGrowth*input)
	}
	return s.MaxResult
}

// emitLimit returns how many bytes a call with the given number of bytes of input may emit in all. Sixteen events, each
// eight times as long as a large input, would take a hundred times its memory.
func (s *Spec) emitLimit(input int) int {
	if s.resultGrows {
		return max(maxEmits*s.MaxResult, resultGrowth*input)
	}
	return maxEmits * s.MaxResult
}

func (s *Spec) granted(g Grant) bool { return g == "" || slices.Contains(s.Grants, g) }

// Hash returns the SHA-256 of a module's bytes in hexadecimal.
func Hash(wasm []byte) string {
	sum := sha256.Sum256(wasm)
	return hex.EncodeToString(sum[:])
}

// key identifies all that a loaded module depends on: its bytes and every setting that its instances see. A module
// with an equal key stays live if it passes the samples, which samplesKey identifies.
func (s *Spec) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%q %d %d %d %d %d %d %v %v\n", s.Name, Hash(s.Wasm), s.Config, s.Memory, s.Fuel,
		s.FuelPerByte, s.InitFuel,
		s.Instances, s.MaxResult, s.resultGrows, s.JSON)
	grants := slices.Clone(s.Grants)
	slices.Sort(grants)
	fmt.Fprintln(h, slices.Compact(grants), s.MaxFailures, s.Cooldown, s.Timeout, s.timeoutGrows, s.InitTimeout)
	fmt.Fprintf(h, "%q %d\n", s.Secrets, s.Tick)
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Spec) samplesKey() string {
	h := sha256.New()
	for i := range s.Samples {
		s.Samples[i].writeKey(h)
	}
	return hex.EncodeToString(h.Sum(nil))
}
