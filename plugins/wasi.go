package plugins

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// wasiModule is the second module that a guest may import from: WASI preview 1 as an empty sandbox. Language runtimes
// need it to start; nothing in it reaches outside. All functions without an implementation return "not supported".
const wasiModule = "wasi_snapshot_preview1"

// WASI error numbers.
const (
	wasiOK     = 0
	wasiBadf   = 8
	wasiInval  = 28
	wasiNosys  = 52
	wasiNotsup = 58
)

// maxRandomBytes bounds a call of random_get.
const maxRandomBytes = 64 << 10

// sandboxEpoch is the start time of the clock for plugins without the grant clock.
var sandboxEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

var wasiFunctions = buildWASI()

func buildWASI() []hostFunction {
	fixed := func(errno uint64) func(*instance, []uint64) {
		return func(_ *instance, stack []uint64) { stack[0] = errno }
	}
	list := []hostFunction{
		{"args_sizes_get", wasiSig(2), "", 5, wasiEmptyList},
		{"args_get", wasiSig(2), "", 5, fixed(wasiOK)},
		{"environ_sizes_get", wasiSig(2), "", 5, wasiEmptyList},
		{"environ_get", wasiSig(2), "", 5, fixed(wasiOK)},
		{"clock_res_get", wasiSig(2), "", 5, wasiClockResolution},
		{"clock_time_get", sig(types(i32, i64, i32), i32), "", 20, wasiClock},
		{"random_get", wasiSig(2), "", 20, wasiRandom},
		{"sched_yield", wasiSig(0), "", 100, fixed(wasiOK)},
		{"poll_oneoff", wasiSig(4), "", 1000, wasiPoll},
		{"proc_exit", sig(types(i32)), "", 5, wasiExit},
		{"fd_write", wasiSig(4), "", 50, wasiWrite},
		{"fd_read", wasiSig(4), "", 50, wasiRead},
		{"fd_fdstat_get", wasiSig(2), "", 10, wasiStat},
		{"fd_fdstat_set_flags", wasiSig(2), "", 10, fixed(wasiOK)},
		{"fd_prestat_get", wasiSig(2), "", 10, fixed(wasiBadf)},
		{"fd_prestat_dir_name", wasiSig(3), "", 10, fixed(wasiBadf)},
		{"fd_close", wasiSig(1), "", 10, fixed(wasiOK)},
		{"fd_seek", sig(types(i32, i64, i32, i32), i32), "", 10, fixed(wasiBadf)},
	}
	for name, s := range map[string]signature{
		"fd_advise":               sig(types(i32, i64, i64, i32), i32),
		"fd_allocate":             sig(types(i32, i64, i64), i32),
		"fd_datasync":             wasiSig(1),
		"fd_fdstat_set_rights":    sig(types(i32, i64, i64), i32),
		"fd_filestat_get":         wasiSig(2),
		"fd_filestat_set_size":    sig(types(i32, i64), i32),
		"fd_filestat_set_times":   sig(types(i32, i64, i64, i32), i32),
		"fd_pread":                sig(types(i32, i32, i32, i64, i32), i32),
		"fd_pwrite":               sig(types(i32, i32, i32, i64, i32), i32),
		"fd_readdir":              sig(types(i32, i32, i32, i64, i32), i32),
		"fd_renumber":             wasiSig(2),
		"fd_sync":                 wasiSig(1),
		"fd_tell":                 wasiSig(2),
		"path_create_directory":   wasiSig(3),
		"path_filestat_get":       wasiSig(5),
		"path_filestat_set_times": sig(types(i32, i32, i32, i32, i64, i64, i32), i32),
		"path_link":               wasiSig(7),
		"path_open":               sig(types(i32, i32, i32, i32, i32, i64, i64, i32, i32), i32),
		"path_readlink":           wasiSig(6),
		"path_remove_directory":   wasiSig(3),
		"path_rename":             wasiSig(6),
		"path_symlink":            wasiSig(5),
		"path_unlink_file":        wasiSig(3),
		"proc_raise":              wasiSig(1),
		"sock_accept":             wasiSig(3),
		"sock_recv":               wasiSig(6),
		"sock_send":               wasiSig(5),
		"sock_shutdown":           wasiSig(2),
	} {
		list = append(list, hostFunction{name, s, "", 10, fixed(wasiNosys)})
	}
	return list
}

// wasiSig returns the signature with n parameters of type i32 and a result of type i32.
func wasiSig(n int) signature {
	params := make([]api.ValueType, n)
	for i := range params {
		params[i] = i32
	}
	return sig(params, i32)
}

// wasiEmptyList reports that there are no arguments or environment variables.
func wasiEmptyList(in *instance, stack []uint64) {
	clear(in.read(stack[0], 4))
	clear(in.read(stack[1], 4))
	stack[0] = wasiOK
}

func wasiClockResolution(in *instance, stack []uint64) {
	binary.LittleEndian.PutUint64(in.read(stack[1], 8), uint64(time.Microsecond))
	stack[0] = wasiOK
}

// wasiClock returns the real time to plugins with the grant clock. For other plugins, each reading advances the clock
// by one microsecond. Sleeping moves the monotonic clock forward, too.
func wasiClock(in *instance, stack []uint64) {
	const monotonic = 1
	id := uint32(stack[0])
	if id > 3 {
		stack[0] = wasiInval
		return
	}
	var now time.Time
	if in.m.spec.granted(GrantClock) {
		now = in.now()
	} else {
		in.readings++
		now = sandboxEpoch.Add(time.Duration(in.readings) * time.Microsecond)
	}
	if id == monotonic || !in.m.spec.granted(GrantClock) {
		now = now.Add(in.slept)
	}
	binary.LittleEndian.PutUint64(in.read(stack[2], 8), uint64(now.UnixNano()))
	stack[0] = wasiOK
}

func wasiRandom(in *instance, stack []uint64) {
	if uint32(stack[1]) > maxRandomBytes {
		stack[0] = wasiInval
		return
	}
	b := in.read(stack[0], stack[1])
	in.charge(int64(len(b)) / 4)
	in.randomize(b)
	stack[0] = wasiOK
}

// wasiPoll returns at once: it ends every wait for a clock by moving the guest's clock, and fails every wait for a
// descriptor.
// See docs/decisions/plugins.md#why-does-sleeping-advance-the-guests-clock
func wasiPoll(in *instance, stack []uint64) {
	const subscription, event = 48, 32
	n := uint32(stack[2])
	if n == 0 || n > 1024 {
		stack[0] = wasiInval
		return
	}
	in.charge(int64(n) * 10)
	subs, events := in.read(stack[0], uint64(n)*subscription), in.read(stack[1], uint64(n)*event)
	for i := range int(n) {
		s := subs[i*subscription:][:subscription]
		var e [event]byte
		copy(e[:8], s[:8]) // userdata
		e[10] = s[8]       // event type
		if s[8] == 0 {     // a clock
			timeout := time.Duration(min(binary.LittleEndian.Uint64(s[24:]), uint64(24*365*time.Hour)))
			if absolute := s[40]&1 != 0; !absolute && in.slept < 100*24*365*time.Hour {
				in.slept += timeout
			}
		} else {
			e[8] = wasiNotsup
		}
		copy(events[i*event:], e[:])
	}
	binary.LittleEndian.PutUint32(in.read(stack[3], 4), n)
	stack[0] = wasiOK
}

func wasiExit(in *instance, stack []uint64) {
	in.abort(KindExit, "the plugin exited with code %d%s", uint32(stack[0]), in.lastLogSuffix())
}

// wasiWrite logs the lines that the guest writes to standard output and standard error.
func wasiWrite(in *instance, stack []uint64) {
	fd, list, n := uint32(stack[0]), stack[1], uint32(stack[2])
	if fd != 1 && fd != 2 {
		stack[0] = wasiBadf
		return
	}
	if n > 1024 {
		stack[0] = wasiInval
		return
	}
	vectors := in.read(list, uint64(n)*8)
	total := uint32(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		b := in.read(uint64(binary.LittleEndian.Uint32(vectors)), uint64(binary.LittleEndian.Uint32(vectors[4:])))
		in.charge(vectorFuel + int64(len(b))/4)
		in.print(fd, b)
		total += uint32(len(b))
	}
	binary.LittleEndian.PutUint32(in.read(stack[3], 4), total)
	stack[0] = wasiOK
}

const (
	vectorFuel = 5   // per vector of fd_write
	lineFuel   = 100 // per log line, as for the host function log
)

// print collects output and logs complete lines. A line that is too long is logged in pieces.
func (in *instance) print(fd uint32, b []byte) {
	level := slog.LevelInfo
	if fd == 2 {
		level = slog.LevelWarn
	}
	for len(b) > 0 {
		room := maxLogText - len(in.output)
		line, _, complete := bytes.Cut(b[:min(len(b), room+1)], []byte{'\n'})
		if len(line) > room {
			in.output = append(in.output, b[:room]...)
			b = b[room:]
			in.charge(lineFuel)
			piece, rest := in.m.conceal.split(string(in.output))
			in.log(level, piece)
			in.output = append(in.output[:0], rest...)
			continue
		}
		in.output = append(in.output, line...)
		b = b[min(len(b), len(line)+1):]
		if !complete {
			return
		}
		if len(in.output) > 0 {
			in.charge(lineFuel)
			in.log(level, string(in.output))
		}
		in.output = in.output[:0]
	}
}

func wasiRead(in *instance, stack []uint64) {
	if uint32(stack[0]) != 0 {
		stack[0] = wasiBadf
		return
	}
	clear(in.read(stack[3], 4)) // end of file
	stack[0] = wasiOK
}

// wasiStat describes the three standard descriptors as character devices.
func wasiStat(in *instance, stack []uint64) {
	if uint32(stack[0]) > 2 {
		stack[0] = wasiBadf
		return
	}
	b := in.read(stack[1], 24)
	clear(b)
	b[0] = 2
	stack[0] = wasiOK
}
