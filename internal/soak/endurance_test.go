package soak

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// scaled returns n, or with ENDURANCE unset the share of n that the test suite has time for, at least 1.
// ENDURANCE=full, set by `make endurance`, runs the tests at their whole length.
func scaled(t *testing.T, n int, share float64) int {
	t.Helper()
	switch given := os.Getenv("ENDURANCE"); given {
	case "":
		return max(1, int(float64(n)*share))
	case "full":
		return n
	default:
		t.Fatalf("ENDURANCE=%s: want full, or nothing for a short run", given)
		return 0
	}
}

// endurance is one relay with its own Redis. At intervals the relay comes to rest, and its vitals are compared with
// those of the first rest, when caches and pools were filled.
type endurance struct {
	t        *testing.T
	relay    *peers.Relay
	redis    *peers.Redis
	unit     string // of progress, such as "connections made"
	progress []int
	readings []vitals
}

func startEndurance(t *testing.T, unit string) *endurance {
	t.Helper()
	store := peers.StartRedis(t)
	relay := peers.StartRelay(t, caddyfile(store.URL, `limits {
		connections_per_user 0
		connections_per_address 0
		groups_per_connection 1000
		subscribe_rate 0
	}`))
	e := &endurance{t: t, relay: relay, redis: store, unit: unit}
	t.Cleanup(func() { t.Log("\n" + e.table()) })
	return e
}

// rest waits until the relay has the given number of connections, and fails the test if it then holds noticeably more
// than at the first rest.
func (e *endurance) rest(progress, connections int) {
	e.t.Helper()
	var now vitals
	within := func(check func(vitals) error) {
		testkit.EventuallyWithin(e.t, time.Minute, fmt.Sprintf("at rest after %d %s", progress, e.unit),
			func() (err error) {
				if now, err = measure(e.relay, e.redis); err != nil {
					return err
				}
				if now.connections != connections {
					return fmt.Errorf("%d connections, want %d", now.connections, connections)
				}
				return check(now)
			})
	}
	if len(e.readings) == 0 {
		within(func(vitals) error { return nil })
		// Memberships and pooled connections end in the background: the lowest of some readings is the baseline.
		lowest := now
		for range 5 {
			within(func(vitals) error { return nil })
			lowest = lowest.lower(now)
		}
		now = lowest
	} else {
		within(e.readings[0].growth)
	}
	e.progress, e.readings = append(e.progress, progress), append(e.readings, now)
}

// lower returns the lower value of each figure.
func (v vitals) lower(w vitals) vitals {
	v.goroutines, v.files = min(v.goroutines, w.goroutines), min(v.files, w.files)
	v.sockets, v.instances, v.pooled = min(v.sockets, w.sockets), min(v.instances, w.instances), min(v.pooled, w.pooled)
	v.toRedis = min(v.toRedis, w.toRedis)
	v.heap, v.resident = min(v.heap, w.heap), min(v.resident, w.resident)
	if len(w.keys) < len(v.keys) {
		v.keys = w.keys
	}
	return v
}

// mostToRedis is more than the pools of two servers hold, with the connections that listen.
var mostToRedis = 2 * (10*runtime.NumCPU() + 10)

// growth returns an error for each figure of now that exceeds that of the baseline v by more than its allowance.
func (v vitals) growth(now vitals) error {
	const mib = 1 << 20
	var errs []error
	for _, f := range []struct {
		name      string
		base, now int
		share     float64 // allowed growth, relative
		more      int     // and absolute
	}{
		{"heap and stacks", v.heap, now.heap, 0.10, 2 * mib},
		{"resident memory", v.resident, now.resident, 0.25, 10 * mib},
		{"goroutines", v.goroutines, now.goroutines, 0.05, 10},
		{"open files", v.files, now.files, 0.05, 10},
		{"sockets", v.sockets, now.sockets, 0.05, 10},
		{"connections to Redis", 0, now.toRedis, 0, mostToRedis},
		{"memory of plugins' instances", v.instances, now.instances, 0.10, mib},
		{"pooled memory", v.pooled, now.pooled, 0.10, mib},
		{"Redis keys", len(v.keys), len(now.keys), 0, 2},
	} {
		if bound := f.base + int(float64(f.base)*f.share) + f.more; f.now > bound {
			errs = append(errs, fmt.Errorf("%s grew from %d to %d, more than %d", f.name, f.base, f.now, bound))
		}
	}
	return errors.Join(errs...)
}

// table lists the readings.
func (e *endurance) table() string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "%s\theap MiB\tresident MiB\tgoroutines\tfiles\tRedis keys\t\n", e.unit)
	for i, v := range e.readings {
		fmt.Fprintf(out, "%d\t%.1f\t%.1f\t%d\t%d\t%d\t\n",
			e.progress[i], mib(v.heap), mib(v.resident), v.goroutines, v.files, len(v.keys))
	}
	_ = out.Flush()
	return b.String()
}

func TestGrowthIsReported(t *testing.T) {
	base := vitals{goroutines: 20, files: 14, heap: 6 << 20, resident: 60 << 20}
	if err := base.growth(base); err != nil {
		t.Errorf("equal vitals: %v", err)
	}
	for name, change := range map[string]func(*vitals){
		"heap":            func(v *vitals) { v.heap = 9 << 20 },
		"resident memory": func(v *vitals) { v.resident = 90 << 20 },
		"goroutines":      func(v *vitals) { v.goroutines = 40 },
		"open files":      func(v *vitals) { v.files = 30 },
		"sockets":         func(v *vitals) { v.sockets = 30 },
		"to Redis":        func(v *vitals) { v.toRedis = mostToRedis + 1 },
		"instances":       func(v *vitals) { v.instances = 9 << 20 },
		"pooled memory":   func(v *vitals) { v.pooled = 9 << 20 },
		"Redis keys":      func(v *vitals) { v.keys = []string{"a", "b", "c"} },
	} {
		t.Run(name, func(t *testing.T) {
			grown := base
			change(&grown)
			if err := base.growth(grown); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("growth of %+v: %v", grown, err)
			}
		})
	}
}
