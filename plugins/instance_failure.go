package plugins

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

func (in *instance) fail(kind Kind, call, format string, args ...any) *Failure {
	return &Failure{Plugin: in.m.spec.Name, Kind: kind, Call: call, Err: fmt.Errorf(format, args...)}
}

// refuse is like fail for a guest that returned in order: its instance, with all state, stays in use.
func (in *instance) refuse(kind Kind, call, format string, args ...any) *Failure {
	f := in.fail(kind, call, format, args...)
	f.intact = true
	return f
}

func (in *instance) unknownResult(call string, v uint64) *Failure {
	return in.fail(KindResult, call, "ABI %d does not define the result %#x", ABIVersion, v)
}

// failure returns the Failure for an error of the engine.
func (in *instance) failure(call string, err error) *Failure {
	if call == metering.StartExport {
		call = "the start function"
	}
	f := &Failure{Plugin: in.m.spec.Name, Kind: KindTrap, Call: call}
	text := summarize(err)
	switch {
	case in.fault != nil:
		*f = Failure{Plugin: f.Plugin, Call: call, Kind: in.fault.Kind, Err: in.fault.Err, canceled: in.fault.canceled}
		in.describe(f)
	case strings.Contains(text, "stack overflow"):
		f.Kind, f.Err = KindFuel, errors.New("stack overflow: the module recurses too deeply")
	case in.firstLog != "":
		f.Err = fmt.Errorf("%s; first log line: %.200s", text, in.firstLog)
	default:
		f.Err = errors.New(text)
	}
	in.fault = nil
	return f
}

// summarize returns the message of an engine's error and the innermost frames of its stack trace.
func summarize(err error) string {
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
