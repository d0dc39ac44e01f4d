package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// instance is one running copy of a module. It serves one call at a time; its owner sees to that. It is the context of its calls, so
// that host functions find it without a lookup.
type instance struct {
	context.Context
	m   *module
	env *environment

	mod         api.Module
	mem         api.Memory
	fuel        api.MutableGlobal
	onEvent     api.Function
	onSubscribe api.Function
	onClass     api.Function
	bufferFn    api.Function
	buffer      uint32 // address of the input buffer
	capacity    uint32 // its size
	stack       [4]uint64

	// Of the call under way.
	group    string
	document []byte // what json_get reads
	hops     int
	effects  bool // emit and audience have effect
	audience uint64
	emits    []emission
	fault    *Failure // why a host function ended the call

	// Of the sandbox.
	slept   time.Duration // how far the guest's clock was moved forward
	ticks   int64         // readings of the clock that stands for the real one
	output  []byte        // an unfinished line on standard output or error
	text    []byte        // scratch
	budget  int64         // fuel that the last call began with
	limit   int           // bytes that it may return or emit
	lastLog string
	said    string // the first line of the call, which tells why a language's runtime gave up
}

// environment is what instances of one plugin share: it outlives the module.
type environment struct {
	log     *logbook
	metrics *counters
	kv      *store
	now     func() time.Time
}

// emission is an event that a plugin emitted.
type emission struct {
	group    string // empty: the event's own
	payload  []byte
	audience uint64
}

// result is what came of one call.
type result struct {
	verdict  Verdict
	payload  []byte // of a replacement
	audience uint64
	emits    []emission
	removed  bool // the plugin has left the pipeline; nothing was decided
	withheld bool // with Drop: no module has processed the event, and clients are told that they miss something
}

const allClasses = math.MaxUint64

// instantiate starts a copy of the module: start function, _initialize, ABI version, ev_init, input buffer.
func (m *module) instantiate(ctx context.Context, env *environment) (in *instance, err error) {
	in = &instance{Context: ctx, m: m, env: env}
	defer func() {
		if r := recover(); r != nil {
			err = engineFault(r)
		}
		if err != nil {
			in.close()
			in = nil
		}
	}()
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if in.mod, err = m.runtime.InstantiateModule(withMemory(ctx), m.compiled, config); err != nil {
		return in, fmt.Errorf("instantiate the module: %s", brief(err))
	}
	in.mem = in.mod.Memory()
	var ok bool
	if in.fuel, ok = in.mod.ExportedGlobal(metering.FuelGlobal).(api.MutableGlobal); !ok {
		return in, errors.New("the metered module has no fuel counter")
	}
	// One budget, the counter's initial value, for all that follows.
	for _, name := range []string{metering.StartExport, exportInitialize} {
		if f := in.mod.ExportedFunction(name); f != nil {
			if err := f.CallWithStack(in, in.stack[:0]); err != nil {
				return in, in.failure(name, err)
			}
		}
	}
	version, err := in.callInit(exportVersion)
	if err != nil {
		return in, err
	}
	if version != ABIVersion {
		return in, fmt.Errorf("the module is built for plugin ABI %d, this host serves %d: build it with a matching SDK", version, ABIVersion)
	}
	if in.mod.ExportedFunction(exportInit) != nil {
		code, err := in.callInit(exportInit)
		if err != nil {
			return in, err
		}
		if code != 0 {
			return in, fmt.Errorf("ev_init refuses with %d%s", int32(code), in.because())
		}
	}
	in.onEvent = in.mod.ExportedFunction(exportOnEvent)
	in.onSubscribe = in.mod.ExportedFunction(exportOnSubscribe)
	in.onClass = in.mod.ExportedFunction(exportOnClass)
	in.bufferFn = in.mod.ExportedFunction(exportBuffer)
	if f := in.grow(4096); f != nil {
		return in, f
	}
	return in, nil
}

func (in *instance) callInit(name string) (uint32, error) {
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

// because gives the last line that the guest logged, for an error that it causes.
func (in *instance) because() string {
	if in.lastLog == "" {
		return " (it logged nothing)"
	}
	return ": " + in.lastLog
}

// charge takes fuel for the work of a host function.
func (in *instance) charge(units int64) {
	left := int64(in.fuel.Get()) - units
	in.fuel.Set(uint64(left))
	if left < 0 {
		in.abort(KindFuel, "out of fuel")
	}
}

// abort ends the call from inside a host function.
func (in *instance) abort(kind Kind, format string, args ...any) {
	in.fault = &Failure{Kind: kind, Err: fmt.Errorf(format, args...)}
	panic(in.fault.Err)
}

// grow asks the guest for a larger input buffer: for some more than is needed, and if it refuses that, for as much.
func (in *instance) grow(need uint32) *Failure {
	size := uint32(4096)
	for size < need {
		size *= 2 // need is below 2^30
	}
	at, f := in.askBuffer(size)
	if at == 0 && f == nil && size > need && need > 4096 {
		size = need
		at, f = in.askBuffer(size)
	}
	if f != nil {
		return f
	}
	if at == 0 {
		f := in.fail(KindTooLarge, exportBuffer, "the module refuses an input buffer of %d bytes%s", size, in.because())
		f.intact = true
		return f
	}
	if _, ok := in.mem.Read(at, size); !ok {
		return in.fail(KindRange, exportBuffer, "the input buffer %#x + %d lies outside the memory of %d bytes", at, size, in.mem.Size())
	}
	in.buffer, in.capacity = at, size
	return nil
}

// askBuffer calls ev_buffer. A guest that fails there fails because of the size.
func (in *instance) askBuffer(size uint32) (at uint32, f *Failure) {
	in.stack[0] = uint64(size)
	if err := in.bufferFn.CallWithStack(in, in.stack[:1]); err != nil {
		f := in.failure(exportBuffer, err)
		if f.Kind == KindTrap && in.started() {
			f.Kind = KindTooLarge
		}
		return 0, f
	}
	return uint32(in.stack[0]), nil
}

// started tells whether the instance is ready for calls.
func (in *instance) started() bool { return in.buffer != 0 }

// begin prepares a call: budget, input, state. The input is a followed by b.
func (in *instance) begin(a string, b []byte) *Failure {
	need := len(a) + len(b)
	in.budget, in.limit = in.m.spec.budget(need), in.m.spec.resultLimit(need)
	in.fuel.Set(uint64(in.budget))
	if need > int(in.capacity) {
		if int64(need) > in.m.spec.Memory/2 || need > 1<<29 {
			f := in.fail(KindTooLarge, exportBuffer,
				"an event of %d bytes does not fit into a memory of %d: raise memory",
				need, in.m.spec.Memory)
			f.intact = true
			return f
		}
		if f := in.grow(uint32(need)); f != nil {
			return f
		}
	}
	buf, ok := in.mem.Read(in.buffer, uint32(need))
	if !ok {
		return in.fail(KindRange, exportBuffer, "the input buffer has left the memory")
	}
	copy(buf, a)
	copy(buf[len(a):], b)
	in.said = ""
	in.document = b
	in.audience = allClasses
	in.emits = in.emits[:0]
	return nil
}

// end forgets the call's input.
func (in *instance) end() { in.document = nil }

// takeSpentFuel returns the fuel of the last call, once.
func (in *instance) takeSpentFuel() int64 {
	spent := max(0, in.budget-int64(in.fuel.Get()))
	in.budget = int64(in.fuel.Get())
	return spent
}

// event calls ev_on_event and sets res. The payload of a replacement is a copy.
func (in *instance) event(group string, payload []byte, hops int, res *result) *Failure {
	if f := in.begin(group, payload); f != nil {
		return f
	}
	in.group, in.hops, in.effects = group, hops, true
	in.stack[0], in.stack[1] = uint64(len(group)), uint64(len(payload))
	err := in.onEvent.CallWithStack(in, in.stack[:2])
	in.end()
	if err != nil {
		return in.failure(exportOnEvent, err)
	}
	res.audience = in.audience
	res.emits = nil
	if len(in.emits) > 0 { // the caller's from here on
		res.emits, in.emits = in.emits, nil
	}
	return in.decode(exportOnEvent, in.stack[0], res)
}

// class calls ev_on_class and sets res.
func (in *instance) class(class uint8, group string, payload []byte, res *result) *Failure {
	if f := in.begin(group, payload); f != nil {
		return f
	}
	in.group, in.effects = group, false
	in.stack[0], in.stack[1], in.stack[2] = uint64(class), uint64(len(group)), uint64(len(payload))
	err := in.onClass.CallWithStack(in, in.stack[:3])
	in.end()
	if err != nil {
		return in.failure(exportOnClass, err)
	}
	return in.decode(exportOnClass, in.stack[0], res)
}

// subscribe calls ev_on_subscribe.
func (in *instance) subscribe(request []byte) (d Decision, named bool, f *Failure) {
	if f := in.begin("", request); f != nil {
		return d, false, f
	}
	in.group, in.effects = "", false
	in.stack[0] = uint64(len(request))
	err := in.onSubscribe.CallWithStack(in, in.stack[:1])
	in.end()
	if err != nil {
		return d, false, in.failure(exportOnSubscribe, err)
	}
	v := in.stack[0]
	if ptr, n := uint32(v>>32), uint32(v); ptr != 0 {
		b, ok := in.mem.Read(ptr, n)
		if !ok {
			return d, false, in.fail(KindRange, exportOnSubscribe, "the reason %#x + %d lies outside the memory", ptr, n)
		}
		return Decision{Reason: strings.ToValidUTF8(string(b[:min(len(b), maxReason)]), "\uFFFD")}, false, nil
	}
	switch {
	case v == resultPass:
		return Decision{Allow: true}, false, nil
	case v == resultDrop:
		return Decision{}, false, nil
	case v == resultError:
		return d, false, in.fail(KindGuest, exportOnSubscribe, "the plugin reports an error%s", in.because())
	case v >= resultClass && v <= resultClass+maxClass:
		return Decision{Allow: true, Class: uint8(v - resultClass)}, true, nil
	}
	return d, false, in.fail(KindResult, exportOnSubscribe, "%#x is no result that ABI %d knows", v, ABIVersion)
}

// decode checks a packed result and copies what it points to.
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
		return in.fail(KindGuest, call, "the plugin reports an error%s", in.because())
	}
	return in.fail(KindResult, call, "%#x is no result that ABI %d knows", v, ABIVersion)
}

// payloadAt copies a payload out of the guest after all checks.
func (in *instance) payloadAt(call, what string, ptr, n uint32) ([]byte, *Failure) {
	if int64(n) > int64(in.limit) {
		f := in.fail(KindTooLarge, call, "%s has %d bytes, more than max_result, %d", what, n, in.limit)
		f.intact = true
		return nil, f
	}
	b, ok := in.mem.Read(ptr, n)
	if !ok {
		return nil, in.fail(KindRange, call, "%s %#x + %d lies outside the memory of %d bytes", what, ptr, n, in.mem.Size())
	}
	if !utf8.Valid(b) {
		return nil, in.fail(KindText, call, "%s is not UTF-8", what)
	}
	if in.m.spec.JSON && !json.Valid(b) {
		return nil, in.fail(KindText, call, "%s is not JSON, which the plugin's settings demand", what)
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

func (in *instance) fail(kind Kind, call, format string, args ...any) *Failure {
	return &Failure{Plugin: in.m.spec.Name, Kind: kind, Call: call, Err: fmt.Errorf(format, args...)}
}

// failure explains an error of the engine.
func (in *instance) failure(call string, err error) *Failure {
	if call == metering.StartExport {
		call = "the start function"
	}
	f := &Failure{Plugin: in.m.spec.Name, Kind: KindTrap, Call: call}
	text := brief(err)
	switch {
	case in.fault != nil:
		f.Kind, f.Err = in.fault.Kind, in.fault.Err
	case strings.Contains(text, "stack overflow"):
		f.Kind, f.Err = KindFuel, errors.New("stack overflow: the module recurses too deeply")
	case int64(in.fuel.Get()) < 0:
		f.Kind = KindFuel
	case in.said != "":
		f.Err = fmt.Errorf("%s; it logged: %.200s", text, in.said)
	default:
		f.Err = errors.New(text)
	}
	if f.Kind == KindFuel && (f.Err == nil || f.Err.Error() == "out of fuel") {
		budget, setting := in.budget, "fuel"
		if !in.started() {
			budget, setting = in.m.spec.InitFuel, "init fuel"
		}
		f.Err = fmt.Errorf("out of fuel after %d units: an endless loop or recursion, or too much work for the %s budget", budget, setting)
	}
	in.fault = nil
	return f
}

// brief keeps of an engine's error what helps: the message and the innermost frames of the stack trace.
func brief(err error) string {
	text := strings.ReplaceAll(err.Error(), " (recovered by wazero)", "")
	lines := strings.Split(text, "\n")
	out := lines[0]
	if len(lines) > 2 && strings.HasPrefix(lines[1], "wasm stack trace") {
		frames := lines[2:min(len(lines), 6)]
		for i := range frames {
			frames[i] = strings.TrimSpace(frames[i])
		}
		out += " in " + strings.Join(frames, " < ")
	}
	if len(out) > 600 {
		out = strings.ToValidUTF8(out[:600], "") + "…"
	}
	return out
}
