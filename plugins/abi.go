package plugins

import (
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// ABIVersion is the version of the ABI that this host serves, see ABI.md. ABIMinor counts the additions to it.
const (
	ABIVersion = 1
	ABIMinor   = 3
)

// since has the minor version that added a host function or an export; others are of version 1.0.
var since = map[string]int{
	"event_source": 1, "event_sent_ms": 1, "ev_on_tick": 1, "event_position": 2, "emit_at": 2,
	"ev_on_connect": 3, "ev_on_message": 3, "ev_on_close": 3, "ev_on_result": 3, "ev_on_alarm": 3,
	"connection_id": 3, "attachment_get": 3, "attachment_set": 3, "send": 3, "join": 3, "leave": 3, "publish": 3,
	"close": 3, "auto_response": 3, "result_context": 3, "shared_get": 3, "shared_set": 3, "shared_swap": 3,
	"shared_add": 3, "shared_push": 3, "shared_list": 3, "alarm_set": 3, "alarm_cancel": 3, "fetch": 3,
}

// abiText returns a version of the ABI as text, such as "1.1".
func abiText(minor int) string { return fmt.Sprintf("%d.%d", ABIVersion, minor) }

// Names of a guest's exports, see ABI.md.
const (
	exportMemory      = "memory"
	exportVersion     = "ev_abi_version"
	exportBuffer      = "ev_buffer"
	exportInit        = "ev_init"
	exportInitialize  = "_initialize"
	exportOnEvent     = "ev_on_event"
	exportOnSubscribe = "ev_on_subscribe"
	exportOnClass     = "ev_on_class"
	exportOnTick      = "ev_on_tick"
	exportOnConnect   = "ev_on_connect"
	exportOnMessage   = "ev_on_message"
	exportOnClose     = "ev_on_close"
	exportOnResult    = "ev_on_result"
	exportOnAlarm     = "ev_on_alarm"
)

// Results of a hook whose pointer is null.
const (
	resultPass   = 0
	resultDrop   = 1
	resultError  = 2
	resultClass  = 0x100   // + class, from on_subscribe
	resultStatus = 0x10000 // + HTTP status, from on_connect
)

// Limits that the ABI states.
const (
	maxEmits      = 16   // emitted events per call
	maxHops       = 4    // how often an event may be sent on to another group
	maxOutputs    = 256  // events that one call of Process appends
	maxLogText    = 4096 // bytes
	maxMetrics    = 32   // counters per plugin
	maxMetricName = 64
	maxReason     = 512 // bytes of the reason of a denial
	maxGroupName  = 99
	maxClass      = 63 // an audience has a bit for each class
)

// Verdict is a plugin's decision about an event.
type Verdict uint8

// Verdicts.
const (
	Pass Verdict = iota
	Drop
	Replace
	Failed // the call failed, and on_error decides
	Allow  // of on_subscribe
	Deny   // of on_subscribe
)

// String returns the verdict's name in metrics and samples.
func (v Verdict) String() string {
	return [...]string{"pass", "drop", "replace", "failed", "allow", "deny", "", ""}[v&7]
}

// Hook is a set of the calls that a plugin can implement.
type Hook uint16

// Hooks; a set is their bitwise OR.
const (
	OnEvent Hook = 1 << iota
	OnSubscribe
	OnClass
	OnTick
	OnConnect
	OnMessage
	OnClose
	OnResult
	OnAlarm

	anyHook = OnAlarm<<1 - 1
	// ofClients are the hooks for the clients of a route, and onItsOwn those that make a plugin useful alone.
	ofClients = OnConnect | OnMessage | OnClose
	onItsOwn  = anyHook &^ OnResult
)

// String returns the names of the hooks in a set: the names of the exports without the prefix "ev_".
func (h Hook) String() string {
	var names []string
	for i, n := range []string{
		"on_event", "on_subscribe", "on_class", "on_tick", "on_connect", "on_message", "on_close", "on_result", "on_alarm",
	} {
		if h&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "|")
}

type signature struct{ params, results []api.ValueType }

// maxShownTypes bounds the parameters, and the results, in the text of a signature. No function of the ABI has as many.
const maxShownTypes = 16

func (s signature) String() string {
	list := func(ts []api.ValueType) string {
		names := make([]string, 0, maxShownTypes+1)
		for _, t := range ts[:min(len(ts), maxShownTypes)] {
			names = append(names, api.ValueTypeName(t))
		}
		if more := len(ts) - maxShownTypes; more > 0 {
			names = append(names, fmt.Sprintf("%d more", more))
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
	{exportVersion, sig(nil, i32), true, 0, "it returns the ABI version that the module was built for"},
	{exportBuffer, sig(types(i32), i32), true, 0, "it returns the address of the input buffer"},
	{exportInit, sig(nil, i32), false, 0, ""},
	{exportInitialize, sig(nil), false, 0, ""},
	{exportOnEvent, sig(types(i32, i32), i64), false, OnEvent, ""},
	{exportOnSubscribe, sig(types(i32), i64), false, OnSubscribe, ""},
	{exportOnClass, sig(types(i32, i32, i32), i64), false, OnClass, ""},
	{exportOnTick, sig(nil, i64), false, OnTick, ""},
	{exportOnConnect, sig(types(i32), i64), false, OnConnect, ""},
	{exportOnMessage, sig(types(i32, i32), i64), false, OnMessage, ""},
	{exportOnClose, sig(types(i32, i32), i64), false, OnClose, ""},
	{exportOnResult, sig(types(i64, i32, i32), i64), false, OnResult, ""},
	{exportOnAlarm, sig(types(i32, i32), i64), false, OnAlarm, ""},
}

// checkExports checks a module's exports against the ABI and returns its hooks. The error lists all faults.
func checkExports(m wazero.CompiledModule) (Hook, error) {
	var hooks Hook
	var faults []string
	if _, ok := m.ExportedMemories()[exportMemory]; !ok {
		faults = append(faults, `"memory" is not exported`)
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
	if hooks&onItsOwn == 0 {
		faults = append(faults, "no hook is exported; export ev_on_event, ev_on_subscribe, ev_on_class, ev_on_tick, "+
			"ev_on_connect, ev_on_message, ev_on_close or ev_on_alarm")
	}
	if _, ok := functions["_start"]; ok && hooks == 0 {
		faults = append(faults, "the module is a command with _start; build a reactor "+
			"(Go: -buildmode=c-shared, clang: -mexec-model=reactor)")
	}
	if len(faults) > 0 {
		return 0, fmt.Errorf("check the exports against plugin ABI %d (see plugins/ABI.md): %s",
			ABIVersion, strings.Join(faults, "; "))
	}
	return hooks, nil
}
