package plugins

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/jsonpath"
)

// hostModule is the name of the import module of ABI 1.
const hostModule = "ev1"

// hostFunction is a function that a guest may import. call reads the arguments from the stack and writes the result
// there.
type hostFunction struct {
	name  string
	sig   signature
	grant Grant
	cost  int64 // fuel of a call, in addition to the fuel that call charges
	call  func(in *instance, stack []uint64)
}

var hostFunctions = []hostFunction{
	{"log", sig(types(i32, i32, i32)), "", 100, hostLog},
	{"config", sig(types(i32, i32), i32), "", 10, hostConfig},
	{"config_get", sig(types(i32, i32, i32, i32), i32), "", 10, hostConfigGet},
	{"json_get", sig(types(i32, i32, i32, i32), i32), "", 10, hostJSONGet},
	{"json_find", sig(types(i32, i32), i64), "", 10, hostJSONFind},
	{"audience", sig(types(i64)), "", 5, hostAudience},
	{"emit", sig(types(i32, i32, i32, i32, i64), i32), GrantEmit, 20, hostEmit},
	{"emit_at", sig(types(i32, i32, i32, i32, i64, i32, i32), i32), GrantEmit, 20, hostEmitAt},
	{"metric_add", sig(types(i32, i32, i64), i32), GrantMetrics, 20, hostMetricAdd},
	{"kv_get", sig(types(i32, i32, i32, i32), i32), GrantKV, 20, hostKVGet},
	{"kv_set", sig(types(i32, i32, i32, i32, i64), i32), GrantKV, 30, hostKVSet},
	{"kv_incr", sig(types(i32, i32, i64, i64), i64), GrantKV, 30, hostKVIncr},
	{"now_ms", sig(nil, i64), GrantClock, 10, hostNow},
	{"event_source", sig(types(i32, i32), i32), "", 10, hostEventSource},
	{"event_sent_ms", sig(nil, i64), "", 10, hostEventSent},
	{"event_position", sig(types(i32, i32), i32), "", 10, hostEventPosition},
	{"connection_id", sig(types(i32, i32), i32), "", 20, hostConnectionID},
	{"attachment_get", sig(types(i32, i32), i32), "", 20, hostAttachmentGet},
	{"attachment_set", sig(types(i32, i32), i32), "", 20, hostAttachmentSet},
	{"send", sig(types(i32, i32, i32), i32), "", 50, hostSend},
	{"join", sig(types(i32, i32), i32), "", 50, hostJoin},
	{"leave", sig(types(i32, i32), i32), "", 50, hostLeave},
	{"publish", sig(types(i32, i32, i32, i32, i32, i32, i32), i32), "", 100, hostPublish},
	{"close", sig(types(i32, i32, i32), i32), "", 50, hostClose},
	{"auto_response", sig(types(i32, i32, i32, i32), i32), "", 50, hostAutoResponse},
	{"result_context", sig(types(i32, i32), i32), "", 10, hostResultContext},
	{"shared_get", sig(types(i32, i32, i32, i32), i64), GrantShared, 200, hostSharedGet},
	{"shared_set", sig(types(i32, i32, i32, i32, i64, i32, i32), i64), GrantShared, 200, hostSharedSet},
	{"shared_swap", sig(types(i32, i32, i32, i32, i32, i32, i64, i32, i32), i64), GrantShared, 200, hostSharedSwap},
	{"shared_add", sig(types(i32, i32, i64, i64, i32, i32), i64), GrantShared, 200, hostSharedAdd},
	{"shared_push", sig(types(i32, i32, i32, i32, i32, i64, i32, i32), i64), GrantShared, 200, hostSharedPush},
	{"shared_list", sig(types(i32, i32, i32, i32, i32), i64), GrantShared, 200, hostSharedList},
	{"alarm_set", sig(types(i32, i32, i32, i32, i64, i32, i32), i64), GrantAlarms, 200, hostAlarmSet},
	{"alarm_cancel", sig(types(i32, i32, i32, i32), i64), GrantAlarms, 200, hostAlarmCancel},
	{"fetch", sig(types(i32, i32, i32, i32, i32, i32), i64), GrantFetch, 500, hostFetch},
}

// buildHost defines functions as the exports of a host module.
func buildHost(ctx context.Context, r wazero.Runtime, name string, functions []hostFunction) error {
	b := r.NewHostModuleBuilder(name)
	for _, f := range functions {
		call := func(ctx context.Context, _ api.Module, stack []uint64) {
			in := ctx.(*instance) // the context of every call into a guest
			in.charge(f.cost)
			f.call(in, stack)
		}
		b.NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(call), f.sig.params, f.sig.results).
			Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// read returns a view of guest memory, which is valid until the guest runs again. A range outside the memory ends the
// call.
func (in *instance) read(p, n uint64) []byte {
	b, ok := in.mem.Read(uint32(p), uint32(n))
	if !ok {
		in.abort(KindRange, "the plugin passed %#x + %d, which lies outside its memory of %d bytes",
			uint32(p), uint32(n), in.mem.Size())
	}
	return b
}

// write copies b to guest memory if b has at most limit bytes.
func (in *instance) write(p, limit uint64, b []byte) {
	if uint64(len(b)) <= uint64(uint32(limit)) {
		copy(in.read(p, uint64(len(b))), b)
	}
}

// writeText is write for a string.
func (in *instance) writeText(p, limit uint64, text string) {
	if uint64(len(text)) <= uint64(uint32(limit)) {
		copy(in.read(p, uint64(len(text))), text)
	}
}

func hostLog(in *instance, stack []uint64) {
	text := in.read(stack[1], stack[2])
	cut := len(text) > maxLogText
	text = text[:min(len(text), maxLogText)]
	in.charge(int64(len(text)) / 4)
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	line := string(text)
	if cut {
		line = in.m.conceal.cut(line)
	}
	in.log(levels[min(uint32(stack[0]), 3)], line)
}

func (in *instance) log(level slog.Level, text string) {
	text = in.m.conceal.text(text)
	in.lastLog = text
	if in.firstLog == "" {
		in.firstLog = text
	}
	in.env.log.write(level, text)
}

func hostConfig(in *instance, stack []uint64) {
	config := in.m.spec.Config
	in.charge(int64(len(config)) / 16)
	in.write(stack[0], stack[1], config)
	stack[0] = uint64(len(config))
}

// find looks up the path at p, n in a document.
func (in *instance) find(document []byte, p, n uint64) (from, to int, ok bool) {
	path := in.read(p, n)
	in.charge(int64(len(document)+len(path)) / 4)
	return jsonpath.Find(document, path)
}

func hostConfigGet(in *instance, stack []uint64) { in.writeValue(in.m.spec.Config, stack) }
func hostJSONGet(in *instance, stack []uint64)   { in.writeValue(in.document, stack) }

// writeValue writes the text of a value in a document to guest memory and returns its length, or -1 if there is none.
func (in *instance) writeValue(document []byte, stack []uint64) {
	from, to, ok := in.find(document, stack[0], stack[1])
	if !ok {
		stack[0] = uint64(math.MaxUint32) // -1
		return
	}
	text := jsonpath.Text(document[from:to])
	in.charge(int64(len(text)) / 16)
	in.write(stack[2], stack[3], text)
	stack[0] = uint64(len(text))
}

func hostJSONFind(in *instance, stack []uint64) {
	from, to, ok := in.find(in.document, stack[0], stack[1])
	if !ok {
		stack[0] = math.MaxUint64 // -1
		return
	}
	stack[0] = uint64(from)<<32 | uint64(to-from)
}

func hostAudience(in *instance, stack []uint64) {
	if in.effects {
		in.audience &= stack[0]
	}
}

func hostEmit(in *instance, stack []uint64) {
	group, payload, mask := in.read(stack[0], stack[1]), in.read(stack[2], stack[3]), stack[4]
	stack[0] = uint64(uint32(in.emit(group, payload, mask, Position{})))
}

// emitNoPosition is the result of emit_at for a text that is not a position.
const emitNoPosition = math.MaxUint32 - 4 // -5

// hostEmitAt is emit with the position of an event that the plugin has held back.
func hostEmitAt(in *instance, stack []uint64) {
	group, payload, mask := in.read(stack[0], stack[1]), in.read(stack[2], stack[3]), stack[4]
	token := in.read(stack[5], stack[6])
	position, err := ParsePosition(string(token[:min(len(token), maxToken+1)]))
	if err != nil {
		stack[0] = emitNoPosition
		return
	}
	stack[0] = uint64(uint32(in.emit(group, payload, mask, position)))
}

// emit keeps an event for the end of the call and returns 0, or an error code for the guest.
func (in *instance) emit(group, payload []byte, mask uint64, position Position) int32 {
	if !in.effects {
		return 0
	}
	in.charge(int64(len(payload)) / 4)
	other := len(group) > 0 && string(group) != in.group
	switch {
	case in.ticking && len(group) == 0:
		return -4
	case len(in.emits) >= maxEmits:
		return -1
	case len(payload) > min(in.resultLimit, in.emitLeft):
		return -2
	case other && in.hops >= maxHops:
		return -3
	case other && !validGroupName(group), !utf8.Valid(payload):
		return -4
	}
	e := emission{payload: slices.Clone(payload), audience: mask, position: position}
	if other {
		e.group = string(group)
	}
	if e.payload == nil {
		e.payload = []byte{}
	}
	in.emits = append(in.emits, e)
	in.emitLeft -= len(payload)
	return 0
}

// validGroupName reports whether the channel layer allows the name: ASCII letters, digits, hyphens, underscores and
// full stops, fewer than 100.
func validGroupName(b []byte) bool {
	if len(b) == 0 || len(b) > maxGroupName {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func hostMetricAdd(in *instance, stack []uint64) {
	stack[0] = uint64(uint32(in.env.metrics.add(in.read(stack[0], stack[1]), int64(stack[2]))))
}

func hostKVGet(in *instance, stack []uint64) {
	key := in.read(stack[0], stack[1])
	in.charge(int64(len(key)) / 16) // before the work: a missing key costs as much
	value, ok := in.env.kv.get(key, in.scratch[:0])
	if !ok {
		stack[0] = uint64(math.MaxUint32)
		return
	}
	in.scratch = value
	in.charge(int64(len(value)) / 16)
	in.write(stack[2], stack[3], value)
	stack[0] = uint64(len(value))
}

func hostKVSet(in *instance, stack []uint64) {
	key, value := in.read(stack[0], stack[1]), in.read(stack[2], stack[3])
	in.charge(int64(len(key)+len(value)) / 4)
	if in.env.kv.set(key, value, ttl(stack[4])) {
		stack[0] = 0
	} else {
		stack[0] = uint64(math.MaxUint32)
	}
}

func hostKVIncr(in *instance, stack []uint64) {
	key := in.read(stack[0], stack[1])
	in.charge(int64(len(key)) / 4)
	n, ok := in.env.kv.incr(key, int64(stack[2]), ttl(stack[3]))
	if !ok {
		n = math.MinInt64
	}
	stack[0] = uint64(n)
}

// ttl converts milliseconds to a duration. A time beyond the range of durations means no expiry.
func ttl(ms uint64) time.Duration {
	if ms > uint64(math.MaxInt64/time.Millisecond) {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

func hostNow(in *instance, stack []uint64) {
	stack[0] = uint64(in.now().UnixMilli())
}

func hostEventSource(in *instance, stack []uint64) {
	if in.source == "" {
		stack[0] = uint64(math.MaxUint32) // -1
		return
	}
	in.writeText(stack[0], stack[1], in.source)
	stack[0] = uint64(len(in.source))
}

func hostEventPosition(in *instance, stack []uint64) {
	if in.position.IsZero() {
		stack[0] = uint64(math.MaxUint32) // -1
		return
	}
	var token [maxToken]byte
	text := in.position.Append(token[:0])
	in.write(stack[0], stack[1], text)
	stack[0] = uint64(len(text))
}

func hostEventSent(in *instance, stack []uint64) {
	if in.sent.IsZero() {
		stack[0] = math.MaxUint64 // -1
		return
	}
	stack[0] = uint64(in.sent.UnixMilli())
}
