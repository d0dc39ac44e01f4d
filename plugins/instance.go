package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// instance is a running copy of a module. The owner makes one call at a time. The instance is the context of its
// calls, so host functions find it without a lookup.
type instance struct {
	context.Context
	m    *module
	env  *environment
	slot *slot // that the instance serves; nil while it starts and in a trial

	mod         api.Module
	mem         api.Memory
	counter     api.MutableGlobal
	onEvent     api.Function
	onSubscribe api.Function
	onClass     api.Function
	onTick      api.Function
	functions   functionExports
	bufferFn    api.Function
	buffer      uint32 // address of the input buffer
	capacity    uint32 // its size
	stack       [4]uint64

	limits limits

	// State of the call in flight.
	group       string
	source      string    // of the event, as in Event
	sent        time.Time // of the event, as in Event
	position    Position  // of the event, as in Event
	document    []byte    // the text that json_get reads
	hops        int
	effects     bool // emit and audience have effect
	ticking     bool // there is no event
	audience    uint64
	emits       []emission
	fault       *Failure // why a host function ended the call
	resultLimit int      // bytes that the call may return, or emit in one event
	emitLeft    int      // bytes that the call may still emit
	own         functionCall
	// autoResponses are those that ev_init has set.
	autoResponses map[string][]byte
	firstLog      string // first log line of the call: a language's runtime writes there why it panics
	lastLog       string

	// State of the sandbox.
	slept    time.Duration // how far sleeping has moved the guest's clock
	readings int64         // of the clock that replaces the real one
	output   []byte        // an unfinished line on standard output or error
	scratch  []byte
}

// Value implements context.Context for the engine, which asks at each call. There are no values.
func (*instance) Value(any) any { return nil }

// environment is the state that the instances of a plugin share, across modules.
type environment struct {
	log     *logbook
	metrics *counters
	kv      *store
	now     func() time.Time
	world   *world  // nil in a trial, whose calls have no effect
	plugin  *plugin // nil in a trial
	// inFlight counts the requests of the plugin to services.
	inFlight    atomic.Int32
	memory      atomic.Int64 // bytes that the instances hold: those of all modules, and their spare ones
	trialTokens atomic.Int64
	random      *trialRandom // nil outside of trials: the system's
}

// emission is an event that a plugin emitted.
type emission struct {
	group    string // empty: the original event's
	payload  []byte
	audience uint64
	position Position // zero: the original event's, if the group is
}

// result is the result of a call.
type result struct {
	verdict  Verdict
	payload  []byte // of a replacement
	audience uint64
	emits    []emission
	by       *module     // that has decided, or has failed to
	resumed  []tickEvent // events of the plugin's ticks that precede the event
	effects  *effects    // on the world outside the pipeline; nil if there are none
	removed  bool        // the plugin has left the pipeline; nothing was decided
	withheld bool        // with Drop: no module has processed the event, and its group learns of the gap
}

// allClasses is the audience of all subscribers.
const allClasses = math.MaxUint64

// instantiate starts a copy of the module: start function, _initialize, ABI version, ev_init, input buffer. ctx ends
// the start.
func (m *module) instantiate(ctx context.Context, env *environment) (in *instance, err error) {
	in = &instance{Context: context.Background(), m: m, env: env}
	memory := &linearMemory{total: &env.memory}
	defer func() {
		if r := recover(); r != nil {
			err = engineFault(r)
		}
		if err != nil {
			in.close()
			memory.Free() // the engine does not, if the instance has failed before it was complete
			in = nil
		}
	}()
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if in.mod, err = m.runtime.InstantiateModule(withMemory(in.Context, memory), m.compiled, config); err != nil {
		return in, fmt.Errorf("instantiate the module: %s", summarize(err))
	}
	in.mem = in.mod.Memory()
	var ok bool
	if in.counter, ok = in.mod.ExportedGlobal(metering.CounterGlobal).(api.MutableGlobal); !ok {
		return in, errors.New("the metered module has no fuel counter")
	}
	in.begin(m.spec.InitFuel, m.spec.InitTimeout) // for all calls below
	in.limits.caller = ctx
	defer func() { in.limits.caller = nil }()
	for _, name := range []string{metering.StartExport, exportInitialize} {
		if f := in.mod.ExportedFunction(name); f != nil {
			if err := f.CallWithStack(in, in.stack[:0]); err != nil {
				return in, in.failure(name, err)
			}
		}
	}
	if err := in.checkVersion(); err != nil {
		return in, err
	}
	if err := in.runInit(); err != nil {
		return in, err
	}
	in.onEvent = in.mod.ExportedFunction(exportOnEvent)
	in.onSubscribe = in.mod.ExportedFunction(exportOnSubscribe)
	in.onClass = in.mod.ExportedFunction(exportOnClass)
	in.onTick = in.mod.ExportedFunction(exportOnTick)
	in.functions.find(in.mod)
	in.bufferFn = in.mod.ExportedFunction(exportBuffer)
	if f := in.growBuffer(minBuffer); f != nil {
		return in, f
	}
	return in, nil
}

func (in *instance) checkVersion() error {
	version, err := in.callStart(exportVersion)
	if err != nil {
		return err
	}
	if version != ABIVersion {
		return fmt.Errorf("the module is built for plugin ABI %d, this host serves %d; build with a matching SDK",
			version, ABIVersion)
	}
	return nil
}

// runInit calls ev_init, if the module exports it.
func (in *instance) runInit() error {
	if in.mod.ExportedFunction(exportInit) == nil {
		return nil
	}
	in.own.starting = true
	code, err := in.callStart(exportInit)
	in.own.starting = false
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("ev_init returned %d%s", int32(code), in.lastLogSuffix())
	}
	return nil
}

// callStart calls an export that takes no arguments, while the instance starts.
func (in *instance) callStart(name string) (uint32, error) {
	if err := in.mod.ExportedFunction(name).CallWithStack(in, in.stack[:1]); err != nil {
		return 0, in.failure(name, err)
	}
	return uint32(in.stack[0]), nil
}

func (in *instance) close() {
	if in.mod != nil {
		_ = in.mod.Close(context.Background())
	}
}

// lastLogSuffix returns the guest's last log line as the end of an error message.
func (in *instance) lastLogSuffix() string {
	if in.lastLog == "" {
		return " (it logged nothing)"
	}
	return ": " + in.lastLog
}

// abort ends the call from inside a host function.
func (in *instance) abort(kind Kind, format string, args ...any) {
	in.fault = &Failure{Kind: kind, Err: fmt.Errorf(format, args...)}
	panic(in.fault.Err)
}

// event calls ev_on_event and sets res. The payload of a replacement is a copy.
func (in *instance) event(ev *Event, hops int, budget *allowance, res *result) *Failure {
	f := in.callOnEvent(ev, hops, budget, res)
	if budget != nil {
		in.settle(budget)
	}
	return f
}

func (in *instance) callOnEvent(ev *Event, hops int, budget *allowance, res *result) *Failure {
	if f := in.prepare(ev.Group, ev.Payload, budget); f != nil {
		return f
	}
	in.group, in.source, in.sent, in.position = ev.Group, ev.Source, ev.Sent, ev.Position
	in.hops, in.effects = hops, true
	in.own.permit(!ev.isReplay())
	in.own.hops = min(hops, maxHops) + 1
	in.stack[0], in.stack[1] = uint64(len(ev.Group)), uint64(len(ev.Payload))
	err := in.onEvent.CallWithStack(in, in.stack[:2])
	in.finish()
	if err != nil {
		return in.failure(exportOnEvent, err)
	}
	res.audience = in.audience
	res.emits = nil
	if len(in.emits) > 0 { // the caller owns the slice from here on
		res.emits, in.emits = in.emits, nil
	}
	if in.own.dirty {
		res.effects = in.own.take()
	}
	in.own.permitted = false
	return in.decode(exportOnEvent, in.stack[0], res)
}

// tick calls ev_on_tick and sets the emitted events of res.
func (in *instance) tick(res *result) *Failure {
	if f := in.prepare("", nil, nil); f != nil {
		return f
	}
	in.group, in.source, in.sent, in.position = "", "", time.Time{}, Position{}
	in.hops, in.effects, in.ticking = 0, true, true
	in.own.permit(true)
	err := in.onTick.CallWithStack(in, in.stack[:1])
	in.ticking = false
	in.finish()
	if err != nil {
		return in.failure(exportOnTick, err)
	}
	switch v := in.stack[0]; v {
	case resultPass:
		res.emits, in.emits = in.emits, nil
		res.effects = in.own.take()
		return nil
	case resultError:
		return in.refuse(KindGuest, exportOnTick, "the plugin reported an error%s", in.lastLogSuffix())
	default:
		return in.unknownResult(exportOnTick, v)
	}
}

// class calls ev_on_class and sets res.
func (in *instance) class(class uint8, ev *Event, res *result) *Failure {
	if f := in.prepare(ev.Group, ev.Payload, nil); f != nil {
		return f
	}
	in.group, in.source, in.sent, in.position, in.effects = ev.Group, ev.Source, ev.Sent, ev.Position, false
	in.stack[0], in.stack[1], in.stack[2] = uint64(class), uint64(len(ev.Group)), uint64(len(ev.Payload))
	err := in.onClass.CallWithStack(in, in.stack[:3])
	in.finish()
	if err != nil {
		return in.failure(exportOnClass, err)
	}
	return in.decode(exportOnClass, in.stack[0], res)
}

// subscribe calls ev_on_subscribe. classified reports whether the plugin named a class.
func (in *instance) subscribe(ctx context.Context, request []byte) (d Decision, classified bool, f *Failure) {
	if f := in.prepare("", request, nil); f != nil {
		return d, false, f
	}
	in.group, in.source, in.sent, in.position, in.effects = "", "", time.Time{}, Position{}, false
	in.limits.caller = ctx
	in.stack[0] = uint64(len(request))
	err := in.onSubscribe.CallWithStack(in, in.stack[:1])
	in.limits.caller = nil
	in.finish()
	if err != nil {
		return d, false, in.failure(exportOnSubscribe, err)
	}
	v := in.stack[0]
	if ptr, n := uint32(v>>32), uint32(v); ptr != 0 {
		b, ok := in.mem.Read(ptr, n)
		if !ok {
			return d, false, in.fail(KindRange, exportOnSubscribe,
				"the reason %#x + %d lies outside the memory", ptr, n)
		}
		reason := in.m.conceal.cut(strings.ToValidUTF8(string(b[:min(len(b), maxReason)]), "\uFFFD"))
		return Decision{Reason: reason}, false, nil
	}
	switch {
	case v == resultPass:
		return Decision{Allow: true}, false, nil
	case v == resultDrop:
		return Decision{}, false, nil
	case v == resultError:
		return d, false, in.refuse(KindGuest, exportOnSubscribe, "the plugin reported an error%s", in.lastLogSuffix())
	case v >= resultClass && v <= resultClass+maxClass:
		return Decision{Allow: true, Class: uint8(v - resultClass)}, true, nil
	}
	return d, false, in.unknownResult(exportOnSubscribe, v)
}

// decode checks a packed result and copies the payload that it points to.
func (in *instance) decode(call string, v uint64, res *result) (f *Failure) {
	res.verdict, res.payload = Pass, nil
	if v == resultPass {
		return nil
	}
	ptr, n := uint32(v>>32), uint32(v)
	switch {
	case ptr != 0:
		res.verdict = Replace
		res.payload, f = in.payloadAt(call, "the result", ptr, n)
		return f
	case n == resultDrop:
		res.verdict = Drop
		return nil
	case n == resultError:
		return in.refuse(KindGuest, call, "the plugin reported an error%s", in.lastLogSuffix())
	}
	return in.unknownResult(call, v)
}

// payloadAt copies a payload out of the guest's memory after all checks.
func (in *instance) payloadAt(call, what string, ptr, n uint32) ([]byte, *Failure) {
	if int64(n) > int64(in.resultLimit) {
		return nil, in.refuse(KindTooLarge, call, "%s has %d bytes, more than max_result (%d)", what, n, in.resultLimit)
	}
	b, ok := in.mem.Read(ptr, n)
	if !ok {
		return nil, in.fail(KindRange, call,
			"%s %#x + %d lies outside the memory of %d bytes", what, ptr, n, in.mem.Size())
	}
	if !utf8.Valid(b) {
		return nil, in.refuse(KindText, call, "%s is not UTF-8", what)
	}
	if in.m.spec.JSON && !json.Valid(b) {
		return nil, in.refuse(KindText, call, "%s is not JSON, which the plugin's settings require", what)
	}
	return append(make([]byte, 0, len(b)), b...), nil
}
