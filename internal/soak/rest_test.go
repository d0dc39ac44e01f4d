//go:build soak

package soak

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// rest waits until the relay is idle and dead nodes are removed, and fails the test if it then holds noticeably
// more than at the first rest.
func (k *soak) rest() {
	k.t.Helper()
	patience := time.Minute // histories outlive their last event by half a minute
	if k.long {
		patience = 2 * time.Minute // killed nodes are buried within about a minute
	}
	var now vitals
	check := func() (err error) {
		testkit.Pause(nil, 200*time.Millisecond) // a measure costs a collection of garbage
		if err := k.idle(); err != nil {
			return err
		}
		if now, err = measure(k.t, k.relay, k.store); err != nil {
			return err
		}
		if len(k.readings) > 0 {
			return k.readings[0].growth(now)
		}
		return nil
	}
	if err := testkit.Poll(testkit.Scale(patience), nil, check); err != nil {
		k.t.Errorf("the relay at rest after %d plays: %v", len(k.readings), err)
		if stacks, err := get(k.relay.Admin + "/debug/pprof/goroutine?debug=1"); err == nil {
			_, _ = io.WriteString(os.Stdout, stacks)
		}
	}
	k.readings = append(k.readings, now)
}

// idle returns an error while the relay has clients, or Redis still holds something of clients, or of nodes that do not
// run.
func (k *soak) idle() error {
	m, err := metrics(k.relay)
	if err != nil {
		return err
	}
	keys, live := k.store.Do("KEYS", "*").([]any), 0
	for _, key := range keys {
		switch name := fmt.Sprint(key); {
		case strings.HasPrefix(name, "edgerelay:node:"):
			live++
		case strings.HasPrefix(name, "asgi:group:job_events-"), strings.HasPrefix(name, "asgispecific."),
			strings.HasPrefix(name, "edgerelay:bury:"), strings.HasPrefix(name, "edgerelay:history:asgi:g:"):
			return fmt.Errorf("redis holds %q", keys)
		} // all else is groups that nodes watch, or handled and goes with the next event
	}
	if open := m["edgerelay_connections"]; open != 0 || live != 2 {
		return fmt.Errorf("%v connections, %d nodes", open, live)
	}
	return nil
}

// table lists the readings.
func (k *soak) table() string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "at rest after\tgoroutines\tfiles\tsockets\theap MiB\tresident MiB\tinstances MiB\t"+
		"pooled MiB\tkeys\t\n")
	for i, v := range k.readings {
		fmt.Fprintf(out, "%d plays\t%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t\n", i, v.goroutines, v.files, v.sockets,
			mib(v.heap), mib(v.resident), mib(v.instances), mib(v.pooled), len(v.keys))
	}
	_ = out.Flush()
	return b.String()
}
