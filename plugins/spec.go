package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// OnError says what happens to an event that its plugin could not process: the call failed, or the plugin is set aside
// for the group.
type OnError string

// Policies. A failing on_subscribe denies, whatever the policy.
const (
	// OnErrorWithhold is the default, also for "": the event, or what a class was to see of it, is not delivered, and
	// the function given to [Pipeline.OnWithheld] is told, so that clients can learn that they miss something.
	OnErrorWithhold OnError = "withhold"
	// OnErrorPass lets the event go on as it came. It is for plugins that guard nothing.
	OnErrorPass OnError = "pass"
	// OnErrorDrop is OnErrorWithhold without a word to clients.
	OnErrorDrop OnError = "drop"
	// OnErrorLastGood lets the module decide that was deployed before this one, if it worked; otherwise the event is
	// withheld.
	OnErrorLastGood OnError = "last_good"
)

// Grant is a capability of the host that a plugin gets only if its Spec lists it.
type Grant string

// Grants; log, config, json_get, json_find and audience need none.
const (
	GrantEmit    Grant = "emit"    // produce events, also for other groups
	GrantMetrics Grant = "metrics" // count
	GrantKV      Grant = "kv"      // keep values between events, across instances
	GrantClock   Grant = "clock"   // know the time
)

// Grants lists all grants, for error messages and documentation.
var Grants = []Grant{GrantEmit, GrantMetrics, GrantKV, GrantClock}

// Spec describes one plugin: its module, what it is bound to and what it may use. Zero values mean the defaults given.
type Spec struct {
	// Name identifies the plugin in logs, metrics and the admin interface.
	Name string
	// Wasm is the module. It must not be changed afterwards.
	Wasm []byte
	// Groups are patterns of group names, "*" standing for any run of characters. None: no group.
	Groups []string
	// Config is a JSON value for the guest's config call; default null.
	Config json.RawMessage
	// OnError is the policy for failures.
	OnError OnError
	// Grants are the capabilities the module may import.
	Grants []Grant
	// Memory limits an instance's linear memory, in bytes; default 32 MiB.
	Memory int64
	// Fuel is the budget of one call in units, to which FuelPerByte adds; default 1,000,000. See FuelFor. The default is
	// some milliseconds of instructions, or seconds of loads that miss the cache:
	// docs/decisions/plugins.md#why-is-fuel-counted-by-rewriting-modules
	Fuel int64
	// FuelPerByte is what each byte of the call's input adds to the budget, in units; default 64. Negative: nothing.
	FuelPerByte int64
	// InitFuel is the budget of an instance's start, _initialize and ev_init together; default 20,000,000.
	InitFuel int64
	// Instances is how many run side by side; default GOMAXPROCS. All events of a group meet the same one.
	Instances int
	// MaxResult limits what a call may return or emit, in bytes; default 1 MiB, or eight times the call's input if that
	// is more.
	MaxResult int
	// JSON demands that results are valid JSON; UTF-8 is demanded always.
	JSON bool
	// KV limits the plugin's key-value store, in bytes of keys and values; default 1 MiB.
	KV int
	// MaxFailures set a hook aside for a group: so many more calls failed there than succeeded. Calls that were too
	// large, ran out of fuel or found no instance do not count. Default 5.
	MaxFailures int
	// Cooldown is how long it is set aside before one call tries it again, doubled for each such try that fails, up to
	// 32 times; default 5 s.
	Cooldown time.Duration
	// Samples are tried before the module takes over; a sample that fails refuses the module.
	Samples []Sample
	// Shadow lets the plugin run beside the others without effect; Health counts how its decisions differ. Compared with the plugin
	// named by ShadowOf, whose events it then sees, or with pass.
	Shadow bool
	// ShadowOf names the plugin that a shadow is compared with. Its Groups are then those of that plugin.
	ShadowOf string

	// resultGrows tells that MaxResult is the default, and grows with the input.
	resultGrows bool
}

// Sample is a golden sample: an event and what must become of it.
type Sample struct {
	Group   string          `json:"group"`
	Payload json.RawMessage `json:"payload"`
	// Verdict is pass, drop or replace; empty demands only that the call succeeds.
	Verdict string `json:"verdict,omitempty"`
	// Output is the payload that replace must give, compared as JSON; empty leaves it open.
	Output json.RawMessage `json:"output,omitempty"`
	// Emits are the events that must be emitted, in order; none leaves it open.
	Emits []SampleEmission `json:"emits,omitempty"`
}

// SampleEmission is an event that a plugin must emit; an empty Group is the sample's own.
type SampleEmission struct {
	Group   string          `json:"group"`
	Payload json.RawMessage `json:"payload"`
}

// Defaults.
const (
	DefaultMemory      = 32 << 20
	DefaultFuel        = 1_000_000
	DefaultFuelPerByte = 64
	DefaultInitFuel    = 20_000_000
	defaultResult      = 1 << 20
	resultGrowth       = 8 // times the input
	defaultKV          = 1 << 20
	defaultFailures    = 5
	defaultCooldown    = 5 * time.Second

	maxModule = 16 << 20 // bytes of a .wasm file
	maxMemory = 1 << 30
	maxConfig = 1 << 20
	maxFuel   = 1 << 50

	maxFuelPerByte = 1 << 20
)

// FuelFor gives a budget that a guest on a usual machine spends in about d: 100 units are a microsecond, give or take a factor of four.
func FuelFor(d time.Duration) int64 { return max(1, int64(d/time.Microsecond)*100) }

// withDefaults checks a Spec and fills in what it leaves open.
func (s Spec) withDefaults() (Spec, error) {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if s.Name == "" || len(s.Name) > 64 || strings.ContainsFunc(s.Name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}) {
		bad("a plugin's name is 1 to 64 letters, digits, - and _")
	}
	switch {
	case len(s.Wasm) == 0:
		bad("there is no module")
	case len(s.Wasm) > maxModule:
		bad("the module has %d bytes, more than %d: build it without debug information (Go: -ldflags=\"-s -w\")", len(s.Wasm), maxModule)
	}
	switch s.OnError {
	case "":
		s.OnError = OnErrorWithhold
	case OnErrorWithhold, OnErrorPass, OnErrorDrop, OnErrorLastGood:
	default:
		bad("on_error is %q: use withhold, pass, drop or last_good", s.OnError)
	}
	for _, g := range s.Grants {
		if !slices.Contains(Grants, g) {
			bad("there is no grant %q: use some of %v", g, Grants)
		}
	}
	for _, g := range s.Groups {
		if g == "" || len(g) > 256 {
			bad("a group pattern has 1 to 256 characters")
		}
	}
	if s.Config == nil {
		s.Config = json.RawMessage("null")
	}
	if len(s.Config) > maxConfig || !json.Valid(s.Config) {
		bad("the config is not JSON of at most %d bytes", maxConfig)
	}
	def(&s.Memory, DefaultMemory)
	def(&s.Fuel, DefaultFuel)
	def(&s.FuelPerByte, DefaultFuelPerByte)
	def(&s.InitFuel, DefaultInitFuel)
	def(&s.Instances, runtime.GOMAXPROCS(0))
	s.resultGrows = s.resultGrows || s.MaxResult == 0 // a Spec with its defaults filled in comes here again
	def(&s.MaxResult, defaultResult)
	def(&s.KV, defaultKV)
	def(&s.MaxFailures, defaultFailures)
	def(&s.Cooldown, defaultCooldown)
	between := func(what string, v, least, most int64) {
		if v < least || v > most {
			bad("%s is %d: it must be %d to %d", what, v, least, most)
		}
	}
	between("memory", s.Memory, 64<<10, maxMemory)
	between("fuel", s.Fuel, 1, maxFuel)
	between("fuel for a byte", s.FuelPerByte, -maxFuelPerByte, maxFuelPerByte)
	between("init fuel", s.InitFuel, 1, maxFuel)
	between("instances", int64(s.Instances), 1, 1024)
	between("the limit of a result", int64(s.MaxResult), 1, maxMemory)
	between("the limit of the key-value store", int64(s.KV), 1, maxMemory)
	between("the number of failures", int64(s.MaxFailures), 1, 1<<20)
	between("cooldown", int64(s.Cooldown), 1, int64(24*time.Hour))
	if s.ShadowOf != "" {
		s.Shadow = true
	}
	if err := errors.Join(faults...); err != nil {
		return s, fmt.Errorf("plugin %s: %w", s.Name, err)
	}
	return s, nil
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// budget is the fuel of a call with so many bytes of input.
func (s *Spec) budget(input int) int64 { return s.Fuel + max(0, s.FuelPerByte)*int64(input) }

// resultLimit is how many bytes a call with so many bytes of input may return.
func (s *Spec) resultLimit(input int) int {
	if s.resultGrows {
		return max(s.MaxResult, resultGrowth*input)
	}
	return s.MaxResult
}

func (s *Spec) granted(g Grant) bool { return g == "" || slices.Contains(s.Grants, g) }

// Hash identifies a module's content: the SHA-256 of its bytes in hexadecimal.
func Hash(wasm []byte) string {
	sum := sha256.Sum256(wasm)
	return hex.EncodeToString(sum[:])
}

// key identifies what a loaded module depends on: bytes and every setting that its instances see. Modules with equal
// keys are reused if they are right about the samples, which samplesKey identifies.
func (s *Spec) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%q %d %d %d %d %d %d %v %v\n", s.Name, Hash(s.Wasm), s.Config, s.Memory, s.Fuel,
		s.FuelPerByte, s.InitFuel,
		s.Instances, s.MaxResult, s.resultGrows, s.JSON)
	grants := slices.Clone(s.Grants)
	slices.Sort(grants)
	fmt.Fprintln(h, slices.Compact(grants), s.MaxFailures, s.Cooldown)
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Spec) samplesKey() string {
	h := sha256.New()
	for _, sample := range s.Samples {
		fmt.Fprintf(h, "%q\n", sample)
	}
	return hex.EncodeToString(h.Sum(nil))
}
