package plugins

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// ABIVersion is the version of the contract in ABI.md that this host serves.
const ABIVersion = 1

// Exports of a guest, see ABI.md.
const (
	exportMemory      = "memory"
	exportVersion     = "ev_abi_version"
	exportBuffer      = "ev_buffer"
	exportInit        = "ev_init"
	exportInitialize  = "_initialize"
	exportOnEvent     = "ev_on_event"
	exportOnSubscribe = "ev_on_subscribe"
	exportOnClass     = "ev_on_class"
)

// Results with a null pointer.
const (
	resultPass  = 0
	resultDrop  = 1
	resultError = 2
	resultClass = 0x100 // + class, from on_subscribe
)

// Bounds that the ABI states.
const (
	maxEmits      = 16   // per call
	maxHops       = 4    // an event is sent to another group at most so often
	maxOutputs    = 256  // of one Process, whatever the plugins do
	maxLogText    = 4096 // bytes
	maxMetrics    = 32   // counters per plugin
	maxMetricName = 64
	maxReason     = 512 // bytes of a deny's reason
	maxGroupName  = 99
	maxClass      = 63 // an audience has a bit for each class
)

// Verdict is what a plugin decided about an event.
type Verdict uint8

// Verdicts.
const (
	Pass Verdict = iota
	Drop
	Replace
	Failed // the call failed and the plugin's policy answered
)

// String returns the verdict as metrics and samples name it.
func (v Verdict) String() string {
	return [...]string{"pass", "drop", "replace", "failed"}[v&3]
}

// Hook is one of the calls a plugin may take.
type Hook uint8

// Hooks, as a set.
const (
	OnEvent Hook = 1 << iota
	OnSubscribe
	OnClass
)

// String returns the hooks of a set, as modules export them but for the prefix "ev_".
func (h Hook) String() string {
	var names []string
	for i, n := range []string{"on_event", "on_subscribe", "on_class"} {
		if h&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "|")
}

type signature struct{ params, results []api.ValueType }

func (s signature) String() string {
	list := func(ts []api.ValueType) string {
		names := make([]string, len(ts))
		for i, t := range ts {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return list(s.params) + " -> " + list(s.results)
}

func (s signature) equal(o signature) bool {
	return string(s.params) == string(o.params) && string(s.results) == string(o.results)
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

func sig(params []api.ValueType, results ...api.ValueType) signature {
	return signature{params, results}
}

func types(t ...api.ValueType) []api.ValueType { return t }

var exports = []struct {
	name     string
	sig      signature
	required bool
	hook     Hook
	purpose  string
}{
	{exportVersion, sig(nil, i32), true, 0, "it tells which ABI the module was built for"},
	{exportBuffer, sig(types(i32), i32), true, 0, "it gives the address of the input buffer"},
	{exportInit, sig(nil, i32), false, 0, ""},
	{exportInitialize, sig(nil), false, 0, ""},
	{exportOnEvent, sig(types(i32, i32), i64), false, OnEvent, ""},
	{exportOnSubscribe, sig(types(i32), i64), false, OnSubscribe, ""},
	{exportOnClass, sig(types(i32, i32, i32), i64), false, OnClass, ""},
}

// checkExports holds a module to the ABI and returns the hooks it takes. Its error lists everything that is wrong at once.
func checkExports(m wazero.CompiledModule) (Hook, error) {
	var hooks Hook
	var faults []string
	if _, ok := m.ExportedMemories()[exportMemory]; !ok {
		faults = append(faults, `no memory is exported as "memory"`)
	}
	functions := m.ExportedFunctions()
	for _, e := range exports {
		f, ok := functions[e.name]
		if !ok {
			if e.required {
				faults = append(faults, fmt.Sprintf("%s %s is not exported: %s", e.name, e.sig, e.purpose))
			}
			continue
		}
		if got := (signature{f.ParamTypes(), f.ResultTypes()}); !got.equal(e.sig) {
			faults = append(faults, fmt.Sprintf("%s has type %s instead of %s", e.name, got, e.sig))
		}
		hooks |= e.hook
	}
	if hooks == 0 {
		faults = append(faults, "no hook is exported: give it ev_on_event, ev_on_subscribe or ev_on_class")
	}
	if _, ok := functions["_start"]; ok && hooks == 0 {
		faults = append(faults, "it is a command with _start; build a reactor instead (Go: -buildmode=c-shared, clang: -mexec-model=reactor)")
	}
	if len(faults) > 0 {
		return 0, fmt.Errorf("the module does not follow plugin ABI %d (see plugins/ABI.md; the SDKs export all of it): %s", ABIVersion, strings.Join(faults, "; "))
	}
	return hooks, nil
}
