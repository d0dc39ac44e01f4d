package plugins

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// caller calls host functions of the fixture by their position there, and reads back the result.
type caller struct {
	t     *testing.T
	trial *Trial
}

// Positions in testdata/caller.wat.
const (
	callArgsSizes = 11 + iota
	callEnviron
	callClock
	callClockRes
	callRandom
	callPoll
	callWrite
	callRead
	callStat
	callPrestat
	callExit
	callOpen
)

func newCaller(t *testing.T, o Options, grants ...Grant) *caller {
	t.Helper()
	spec := Spec{
		Name:   "caller",
		Wasm:   fixture(t, "caller"),
		Grants: append([]Grant{GrantEmit, GrantMetrics, GrantKV, GrantClock}, grants...),
	}
	tr, err := Try(context.Background(), o, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return &caller{t, tr}
}

// call gives the function's result, in hexadecimal, and the guest's memory.
func (c *caller) call(n byte, args ...uint64) (string, []byte) {
	c.t.Helper()
	payload := []byte{n}
	for _, a := range args {
		payload = binary.LittleEndian.AppendUint64(payload, a)
	}
	tr := c.trial.Event(Event{Group: "g", Payload: payload})
	if tr.Err != nil {
		return tr.Err.Error(), nil
	}
	mem, _ := c.trial.run.instance.mem.Read(0, 4096)
	return strings.TrimLeft(string(tr.Outputs[0].Payload[:15]), "0") + string(tr.Outputs[0].Payload[15:]), mem
}

func (c *caller) want(result string, n byte, args ...uint64) []byte {
	c.t.Helper()
	got, mem := c.call(n, args...)
	if got != result {
		c.t.Errorf("function %d with %v gives %s, want %s", n, args, got, result)
	}
	if mem == nil {
		mem = make([]byte, 4096)
	}
	return mem
}

func TestSandbox(t *testing.T) {
	now := time.Unix(1_700_000_000, 5)
	c := newCaller(t, Options{Logger: quiet, Now: func() time.Time { return now }})
	u32 := func(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
	u64 := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

	mem := c.want("0", callArgsSizes, 200, 204)
	if u32(mem[200:]) != 0 || u32(mem[204:]) != 0 {
		t.Error("there are arguments")
	}
	c.want("0", callEnviron, 200, 204)
	c.want("8", callPrestat, 3, 200) // no folder is open
	c.want("34", callOpen, 3, 0, 64, 4, 0, 0, 0, 0, 200)
	if mem := c.want("0", callStat, 1, 200); mem[200] != 2 {
		t.Error("standard output is no character device")
	}
	c.want("8", callStat, 3, 200)
	if mem := c.want("0", callRead, 0, 0, 0, 200); u32(mem[200:]) != 0 {
		t.Error("there is something to read")
	}
	c.want("8", callRead, 5, 0, 0, 200)
	a, b := c.want("0", callRandom, 200, 32), c.want("0", callRandom, 300, 32)
	if string(a[200:232]) == string(b[300:332]) {
		t.Error("random bytes repeat")
	}
	c.want("1c", callRandom, 200, 1<<20)
	if got, _ := c.call(callExit, 3); !strings.Contains(got, "exited with code 3") {
		t.Error(got)
	}

	// The clock is real with the grant; sleeping ends at once and moves the monotonic clock only.
	const realtime, monotonic = 0, 1
	if mem := c.want("0", callClock, realtime, 0, 200); u64(mem[200:]) != uint64(now.UnixNano()) {
		t.Errorf("the time is %d", u64(mem[200:]))
	}
	c.want("0", callClockRes, realtime, 200)
	c.want("1c", callClock, 9, 0, 200)
	// A subscription to one hour of the monotonic clock stands in the payload, behind the five arguments.
	start := time.Now()
	hour := make([]uint64, 4+6)
	copy(hour, []uint64{4097 + 1 + 32, 1024, 1, 1200})
	hour[4+0], hour[4+3] = 77, uint64(time.Hour)
	mem = c.want("0", callPoll, hour...)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("the sleep took %v", took)
	}
	if u32(mem[1200:]) != 1 || u64(mem[1024:]) != 77 {
		t.Errorf("the sleep reports %d events, the first for %d", u32(mem[1200:]), u64(mem[1024:]))
	}
	if mem := c.want("0", callClock, monotonic, 0, 200); u64(mem[200:]) != uint64(now.Add(time.Hour).UnixNano()) {
		t.Errorf("after an hour's sleep the monotonic clock is at %d", u64(mem[200:]))
	}
	if mem := c.want("0", callClock, realtime, 0, 200); u64(mem[200:]) != uint64(now.UnixNano()) {
		t.Errorf("after an hour's sleep the wall clock is at %d", u64(mem[200:]))
	}
}

// TestOutputIsLogged: lines on standard output and error reach the log as a whole, in any number of writes, and long
// lines in pieces.
func TestOutputIsLogged(t *testing.T) {
	c := newCaller(t, Options{Logger: quiet})
	write := func(fd uint64, text string) {
		// One vector, then the text, both in the payload behind the arguments.
		const at = 4097 + 1 + 32
		args := []uint64{fd, at, 1, 200, uint64(at+8) | uint64(len(text))<<32}
		payload := []byte{callWrite}
		for _, a := range args {
			payload = binary.LittleEndian.AppendUint64(payload, a)
		}
		if tr := c.trial.Event(Event{Group: "g", Payload: append(payload, text...)}); tr.Err != nil {
			t.Fatal(tr.Err)
		}
	}
	write(1, "one ")
	write(1, "line\ntwo\n\n")
	write(2, strings.Repeat("x", maxLogText+10)+"\n")
	var got []string
	for _, l := range c.trial.run.env.log.snapshot() {
		got = append(got, l.Level.String()+" "+l.Text)
	}
	want := []string{
		"INFO one line",
		"INFO two",
		"WARN " + strings.Repeat("x", maxLogText),
		"WARN " + strings.Repeat("x", 10),
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("the log is %.300q", got)
	}
	if got, _ := c.call(callWrite, 7, 0, 0, 200); got != "8" {
		t.Errorf("a write to descriptor 7 gives %s", got)
	}
}
