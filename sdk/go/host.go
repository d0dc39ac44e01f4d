package edgerelay

import "strconv"

// Level is the severity of a log line.
type Level int32

// Levels.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

// Log writes a line to the relay's log, at a bounded rate. Text beyond 4 KiB is cut.
func Log(level Level, text string) { hostLog(int32(level), text) }

// Config returns the plugin's configuration as JSON text, "null" without a configuration.
func Config() []byte {
	b := make([]byte, hostConfig(nil))
	return b[:min(hostConfig(b), len(b))]
}

// ConfigText returns the value at path in the configuration, like [Document.Text].
func ConfigText(path string) (string, bool) { return text(hostConfigGet, path) }

// ConfigInt returns the integer at path in the configuration, or otherwise if there is none.
func ConfigInt(path string, otherwise int64) int64 {
	if n, ok := integer(hostConfigGet, path); ok {
		return n
	}
	return otherwise
}

// ConfigList returns the array at path in the configuration, each element like [ConfigText]; nil if there is none.
func ConfigList(path string) (list []string) {
	if path != "" {
		path += "."
	}
	for i := 0; ; i++ {
		s, ok := ConfigText(path + strconv.Itoa(i))
		if !ok {
			return list
		}
		list = append(list, s)
	}
}

// Everybody is the audience of all classes.
const Everybody = ^uint64(0)

// Audience restricts the event at hand, if this plugin does not drop it, to subscribers whose class is in mask: bit c
// stands for class c. It has an effect in [OnEvent] only.
func Audience(mask uint64) { hostAudience(mask) }

// EmitError is the reason why an event was not emitted.
type EmitError int32

// Reasons.
const (
	ErrTooMany  EmitError = -1 // more than 16 in one call
	ErrTooLong  EmitError = -2 // longer than the plugin's max_result
	ErrHops     EmitError = -3 // sent from group to group too often
	ErrName     EmitError = -4 // invalid group name (1 to 99 of A-Z a-z 0-9 - _ .), none in OnTick, or no UTF-8
	ErrPosition EmitError = -5 // not a token of Event.Position
)

// Error returns the reason as text.
func (e EmitError) Error() string {
	switch e {
	case ErrTooMany:
		return "emit: too many events in one call"
	case ErrTooLong:
		return "emit: the payload is too long"
	case ErrHops:
		return "emit: sent from group to group too often"
	case ErrPosition:
		return "emit: not a position of an event"
	}
	return "emit: invalid group name, or the payload is not UTF-8"
}

// Emit sends another event to group, or to the event's own group if group is empty. The new event follows the event
// at hand, and only if the hook succeeds. Emit has an effect in [OnEvent] and [OnTick] only. Grant: emit.
func Emit(group string, payload []byte) error { return EmitFor(group, payload, Everybody) }

// EmitFor is like [Emit], for subscribers of the classes in mask, see [Audience].
func EmitFor(group string, payload []byte, mask uint64) error {
	if code := hostEmit(group, payload, mask); code != 0 {
		return EmitError(code)
	}
	return nil
}

// EmitAt is like [Emit], for an event that the plugin has held back: position is the [Event.Position] of that event, of
// the same group, or of the last one if the new event stands for several. Clients resume from there. An event of a tick
// without a position makes a gap in the history of its group.
func EmitAt(group string, payload []byte, position string) error {
	if code := hostEmitAt(group, payload, Everybody, position); code != 0 {
		return EmitError(code)
	}
	return nil
}

// Count adds to a counter of the plugin's metrics, and reports whether the host accepted the name and delta. Names are
// [a-z_][a-z0-9_]*, at most 32 of them. Grant: metrics.
func Count(name string, delta int64) bool { return hostMetricAdd(name, delta) == 0 }

// KVGet reads from the plugin's store, which all instances on this node share. Grant: kv.
func KVGet(key string) (string, bool) { return text(hostKVGet, key) }

// KVSet stores a value for ttl milliseconds; 0 means forever. An empty value deletes the key. KVSet reports whether
// there was room. Grant: kv.
func KVSet(key, value string, ttl int64) bool { return hostKVSet(key, value, ttl) == 0 }

// KVIncr adds to a decimal number in the store, 0 if the key is missing, and returns the sum. ttl, in milliseconds,
// counts from the key's first use. KVIncr reports false if the store is full or the value is not a number. Grant: kv.
func KVIncr(key string, delta, ttl int64) (int64, bool) {
	n := hostKVIncr(key, delta, ttl)
	return n, n != -1<<63
}

// Now returns Unix time in milliseconds. Grant: clock.
func Now() int64 { return hostNow() }
