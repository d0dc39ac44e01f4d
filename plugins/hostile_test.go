package plugins

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused lists modules that must not load, with a part of the error.
var refused = map[string]string{
	"start":          "the start function: out of fuel after 20000000 units",
	"start_trap":     "the start function: wasm error: unreachable",
	"init":           "ev_init: out of fuel",
	"init_refuses":   "ev_init returned 1: no words are configured",
	"version":        "built for plugin ABI 2, this host serves 1",
	"buffer_range":   "the input buffer 0x7fffff00 + 4096 lies outside the memory of 65536 bytes",
	"buffer_refused": "the module refuses an input buffer of 4096 bytes",
	"table_huge":     "a table of 4294967295 elements is larger than the limit",
	"memory_huge":    "over limit of 512 pages",
	"import_unknown": "the module imports env.system; import only from ev1 and wasi_snapshot_preview1\n" +
		"the module imports ev1.read_file, which this relay (plugin ABI 1.3) does not have; build with the SDK of this " +
		"version, or upgrade the relay if a newer one has it\n" +
		"the module imports ev1.log as (i64) -> (); the type must be (i32, i32, i32) -> ()",
	"import_granted": "add 'grant emit' to the plugin's block",
	"import_memory":  "the module imports its memory; export a memory instead",
	"exports_missing": `"memory" is not exported; ` +
		"ev_abi_version () -> (i32) is not exported: it returns the ABI version that the module was built for; " +
		"ev_buffer (i32) -> (i32) is not exported: it returns the address of the input buffer; " +
		"ev_on_event has type (i32) -> (i32) instead of (i32, i32) -> (i64)",
	"command": "the module is a command with _start; build a reactor",
}

// failing lists modules that load and fail at the first event, with the kind of the failure and a part of the error.
var failing = map[string]struct {
	kind Kind
	want string
}{
	"loop":             {KindFuel, "out of fuel after 1000576 units"},
	"misses":           {KindTimeout, "timed out after 50.009ms"},
	"mutual_recursion": {KindFuel, "stack overflow"},
	"recursion":        {KindFuel, "stack overflow"},
	"fibonacci":        {KindFuel, "out of fuel"},
	"memory_hog":       {KindFuel, "out of fuel"},
	"memory_grow":      {KindTrap, "unreachable"}, // memory.grow returns -1
	"result_huge":      {KindTooLarge, "the result has 6000000 bytes, more than max_result (1048576)"},
	"result_range":     {KindRange, "the result 0xfffffff0 + 4096 lies outside the memory of 65536 bytes"},
	"result_length":    {KindTooLarge, "4294967280 bytes"},
	"result_text":      {KindText, "the result is not UTF-8"},
	"result_unknown":   {KindResult, "ABI 1 does not define the result 0x63"},
	"trap":             {KindTrap, "wasm error: unreachable"},
	"divide":           {KindTrap, "integer divide by zero"},
	"out_of_bounds":    {KindTrap, "out of bounds memory access"},
	"sleep":            {KindFuel, "out of fuel"},
	"exit":             {KindExit, "the plugin exited with code 3"},
	"random":           {KindFuel, "out of fuel"},
	"log_flood":        {KindFuel, "out of fuel"},
	"lines":            {KindFuel, "out of fuel"},
	"pointer":          {KindRange, "the plugin passed 0xfffffff0 + 100, which lies outside its memory"},
	"table_grow":       {KindFuel, "out of fuel"},
	"table_fill":       {KindFuel, "out of fuel"},
	"bulk_copy":        {KindFuel, "out of fuel"},
	"kv_keys":          {KindFuel, "out of fuel"},
	"straight":         {KindFuel, "out of fuel"},
}

// maxHostileCall bounds a hostile call on a busy machine. The aim is milliseconds; a guest that is not stopped never
// returns.
const maxHostileCall = 10 * time.Second

func TestHostileFixturesAreAllTested(t *testing.T) {
	files, err := filepath.Glob("testdata/hostile/*.wasm")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".wasm")
		if _, ok := failing[name]; !ok && refused[name] == "" {
			t.Errorf("%s is not tested", f)
		}
	}
	if len(files) != len(failing)+len(refused) {
		t.Errorf("%d fixtures, %d expectations", len(files), len(failing)+len(refused))
	}
}

func TestHostileModulesAreRefused(t *testing.T) {
	p := pipeline(t, Options{}, actor(t))
	for name, want := range refused {
		start := time.Now()
		err := p.Apply(
			context.Background(),
			[]Spec{actor(t), {Name: name, Wasm: fixture(t, "hostile/"+name), Groups: []string{"*"}}},
		)
		took := time.Since(start)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "plugin "+name+": ") ||
			strings.Count(err.Error(), "plugin "+name+": ") > 1 {
			t.Errorf("%s: %v\n\twant %q", name, err, want)
		}
		if took > maxHostileCall {
			t.Errorf("%s was rejected after %v", name, took)
		}
		// The pipeline has not changed.
		if got := show(p.Process(Event{Group: "g1", Payload: do("replace", "with", "{}")}, nil)); got != "g1 {}" || len(p.Health()) != 1 {
			t.Errorf("%s: after the error an event gives %q", name, got)
		}
	}
}

func TestHostileCalls(t *testing.T) {
	for name, c := range failing {
		t.Run(name, func(t *testing.T) {
			spec := Spec{
				Name:   name,
				Wasm:   fixture(t, "hostile/"+name),
				Groups: []string{"*"},
				Grants: Grants,
				Memory: 17 << 20, // memory_grow asks for a page at a time
				Fuel:   DefaultFuel,
			}
			if c.kind != KindTimeout {
				spec.Timeout = time.Minute // on a busy machine, the kind of the failure is the same
			}
			tr, err := Try(context.Background(), Options{Logger: quiet, startWait: time.Minute}, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			for range 2 { // the second meets a new instance
				got := tr.Event(Event{Group: "g1", Payload: []byte(`{"a":1}`)})
				var f *Failure
				if got.Verdict != Failed || !errors.As(got.Err, &f) || f.Kind != c.kind ||
					!strings.Contains(f.Error(), c.want) ||
					f.Plugin != name {
					t.Errorf("%v %v\n\twant %s, %q", got.Verdict, got.Err, c.kind, c.want)
				}
				t.Logf("%v, %d units, %d KiB", got.Duration, got.Fuel, got.Memory>>10)
				if got.Duration > maxHostileCall || got.Memory > DefaultMemory {
					t.Errorf("the call took %v and %d bytes", got.Duration, got.Memory)
				}
			}
		})
	}
}
