package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/plugins"
)

// pluginTestOptions are the flags of the command plugin test.
type pluginTestOptions struct {
	config, group, onError string
	grants                 []string
	fuel, memory           int64
}

func pluginTestCommand() *cobra.Command {
	var o pluginTestOptions
	cmd := &cobra.Command{
		Use:   "test <file.wasm> <events.ndjson|->",
		Short: "Run a plugin on sample events, without a server",
		Long: "Runs a plugin on events, a JSON object a line, and shows verdict, fuel, time, memory and output of\n" +
			"each event. A line is {\"group\": \"…\", \"payload\": <JSON>}, with \"verdict\", \"output\" and\n" +
			"\"emits\" as expectations. A line without \"payload\" is a payload itself. If the plugin fails on an\n" +
			"event, the command shows the outcome of on_error. The command fails if the plugin fails on an event,\n" +
			"or if an expectation is not met.",
		Example: `  caddy edgerelay plugin test redact.wasm events.ndjson --config '{"words": ["password"]}'`,
		Args:    cobra.ExactArgs(2),
		RunE:    runE(func(args []string) error { return o.run(args[0], args[1]) }),
	}
	all := make([]string, len(plugins.Grants))
	for i, g := range plugins.Grants {
		all[i] = string(g)
	}
	cmd.Flags().StringVar(&o.config, "config", "", "configuration of the plugin as JSON")
	cmd.Flags().StringVar(&o.group, "group", "test", "group of events that name none")
	cmd.Flags().StringSliceVar(&o.grants, "grant", all, "capabilities of the plugin")
	cmd.Flags().Int64Var(&o.fuel, "fuel", plugins.DefaultFuel,
		"fuel of a call; each byte of the event adds to the fuel")
	cmd.Flags().Int64Var(&o.memory, "memory", plugins.DefaultMemory, "memory in bytes")
	cmd.Flags().StringVar(&o.onError, "on-error", string(plugins.OnErrorWithhold),
		"policy for events that the plugin fails on")
	return cmd
}

// run runs the module in a file on the events of another file; "-" is standard input.
func (o *pluginTestOptions) run(module, events string) error {
	spec := plugins.Spec{Name: "test", Fuel: o.fuel, Memory: o.memory, OnError: plugins.OnError(o.onError)}
	if o.config != "" {
		spec.Config = json.RawMessage(o.config)
	}
	for _, g := range o.grants {
		spec.Grants = append(spec.Grants, plugins.Grant(g))
	}
	var err error
	if spec.Wasm, err = os.ReadFile(module); err != nil {
		return err
	}
	in := os.Stdin
	if events != "-" {
		if in, err = os.Open(events); err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
	}
	return tryPlugin(os.Stdout, os.Stderr, spec, in, o.group)
}

// maxEventLine is the longest line of events in bytes.
const maxEventLine = 16 << 20

// tryPlugin runs a plugin on events and writes the results. The plugin's own log lines go to log.
func tryPlugin(w, log io.Writer, spec plugins.Spec, events io.Reader, group string) error {
	logger := slog.New(slog.NewTextHandler(log, nil))
	trial, err := plugins.Try(context.Background(), plugins.Options{Logger: logger}, spec)
	if err != nil {
		return err
	}
	defer trial.Close()
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, maxEventLine)
	var count, wrong int
	var fuel int64
	var duration time.Duration
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		ev, err := parseSample(lines.Bytes(), group)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		trace := trial.Event(plugins.Event{Group: ev.Group, Payload: ev.Payload})
		count, fuel, duration = count+1, fuel+trace.Fuel, duration+trace.Duration
		writeTrace(w, n, ev, trace, spec.OnError)
		if err := compare(ev, trace); err != nil {
			wrong++
			fmt.Fprintf(w, "     ✗ %v\n", err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	if count == 0 {
		return errors.New("no events in the input")
	}
	fmt.Fprintf(w, "%d events, %d wrong; on average fuel %d, %v\n", count, wrong, fuel/int64(count),
		(duration / time.Duration(count)).Round(100*time.Nanosecond))
	if wrong > 0 {
		return fmt.Errorf("%d of %d events failed", wrong, count)
	}
	return nil
}

// writeTrace writes the result of the event in line n.
func writeTrace(w io.Writer, n int, ev plugins.Sample, t plugins.Trace, policy plugins.OnError) {
	fmt.Fprintf(w, "%d  %-7s  %s  fuel %d  %v  memory %d KiB\n",
		n, t.Verdict, ev.Group, t.Fuel, t.Duration.Round(100*time.Nanosecond), t.Memory>>10)
	if t.Verdict == plugins.Failed {
		fmt.Fprintf(w, "     → %s\n", policyOutcome(policy))
	}
	for _, o := range t.Outputs {
		to := cmp.Or(o.Group, ev.Group)
		audience := ""
		if o.Audience != ^uint64(0) {
			audience = fmt.Sprintf("  classes %#x", o.Audience)
		}
		fmt.Fprintf(w, "     → %s%s  %s\n", to, audience, o.Payload)
	}
}

// policyOutcome describes the outcome of an event that a plugin fails on.
func policyOutcome(policy plugins.OnError) string {
	switch policy {
	case plugins.OnErrorPass:
		return "on_error pass: delivered unchanged"
	case plugins.OnErrorDrop:
		return "on_error drop: not delivered, and clients are not notified"
	case plugins.OnErrorLastGood:
		return "on_error last_good: the previous module decides; without one, not delivered"
	}
	return "on_error withhold: not delivered"
}

// parseSample parses a line of events: a sample, or a payload alone. group is the default group.
func parseSample(line []byte, group string) (ev plugins.Sample, err error) {
	if !json.Valid(line) {
		return ev, errors.New("not JSON")
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(line, &members) == nil && members["payload"] != nil {
		if err := json.Unmarshal(line, &ev); err != nil {
			return ev, err
		}
	} else {
		ev.Payload = append(json.RawMessage(nil), line...)
	}
	if ev.Group == "" {
		ev.Group = group
	}
	return ev, nil
}

// compare returns an error if the plugin failed, or did not meet an expectation of the sample.
func compare(ev plugins.Sample, tr plugins.Trace) error {
	switch {
	case tr.Err != nil:
		return tr.Err
	case ev.Verdict != "" && ev.Verdict != tr.Verdict.String():
		return fmt.Errorf("want verdict %s", ev.Verdict)
	case ev.Output != nil && (tr.Verdict != plugins.Replace || !equalJSON(ev.Output, tr.Outputs[0].Payload)):
		return fmt.Errorf("want output %s", ev.Output)
	}
	if len(ev.Emits) == 0 {
		return nil
	}
	emitted := tr.Outputs
	if tr.Verdict != plugins.Drop {
		emitted = emitted[1:] // without the event's own output
	}
	if len(emitted) != len(ev.Emits) {
		return fmt.Errorf("want %d emitted events", len(ev.Emits))
	}
	for i, want := range ev.Emits {
		if emitted[i].Group != want.Group || !equalJSON(want.Payload, emitted[i].Payload) {
			return fmt.Errorf("want %s emitted to %q", want.Payload, want.Group)
		}
	}
	return nil
}

// equalJSON compares two JSON texts, ignoring white space.
func equalJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
