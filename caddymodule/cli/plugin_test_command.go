package cli

import (
	"bufio"
	"bytes"
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

func pluginTestCommand() *cobra.Command {
	var config, group, onError string
	var grants []string
	var fuel, memory int64
	cmd := &cobra.Command{
		Use:   "test <file.wasm> <events.ndjson|->",
		Short: "Run a plugin on events, without a server",
		Long: "Runs a plugin on events, one JSON object a line, and shows for each its verdict, fuel, time and memory, and what came out. A line is\n" +
			"{\"group\": \"…\", \"payload\": <JSON>}, with \"verdict\", \"output\" and \"emits\" if they are to be checked; a line without \"payload\"\n" +
			"is a payload itself. Where the plugin fails, it shows what becomes of the event by on_error. The command fails if the plugin fails on\n" +
			"an event, or does something else than the line says.",
		Example: `  caddy edgerelay plugin test redact.wasm events.ndjson --config '{"words": ["password"]}'`,
		Args:    cobra.ExactArgs(2),
		RunE: running(func(args []string) error {
			spec := plugins.Spec{
				Name: "test", Config: json.RawMessage(config), Fuel: fuel, Memory: memory, OnError: plugins.OnError(onError),
			}
			if config == "" {
				spec.Config = nil
			}
			for _, g := range grants {
				spec.Grants = append(spec.Grants, plugins.Grant(g))
			}
			var err error
			if spec.Wasm, err = os.ReadFile(args[0]); err != nil {
				return err
			}
			in := os.Stdin
			if args[1] != "-" {
				if in, err = os.Open(args[1]); err != nil {
					return err
				}
				defer func() { _ = in.Close() }()
			}
			return Run(os.Stdout, os.Stderr, spec, in, group)
		}),
	}
	cmd.Flags().StringVar(&config, "config", "", "the plugin's configuration as JSON")
	cmd.Flags().StringVar(&group, "group", "test", "the group of events that name none")
	all := make([]string, len(plugins.Grants))
	for i, g := range plugins.Grants {
		all[i] = string(g)
	}
	cmd.Flags().StringSliceVar(&grants, "grant", all, "what the plugin may use")
	cmd.Flags().Int64Var(&fuel, "fuel", plugins.DefaultFuel,
		"units of fuel for one call, to which each byte of the event adds")
	cmd.Flags().Int64Var(&memory, "memory", plugins.DefaultMemory, "bytes of memory")
	cmd.Flags().StringVar(&onError, "on-error", string(plugins.OnErrorWithhold),
		"the policy for events on which the plugin fails")
	return cmd
}

// maxLine is the longest line of events in bytes.
const maxLine = 16 << 20

// try runs a plugin on events and writes what it does. The plugin's own lines go to log.
func Run(w, log io.Writer, spec plugins.Spec, events io.Reader, group string) error {
	trial, err := plugins.Try(context.Background(), plugins.Options{Logger: slog.New(slog.NewTextHandler(log, nil))}, spec)
	if err != nil {
		return err
	}
	defer trial.Close()
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, maxLine)
	wrong := 0
	var total struct {
		events int
		fuel   int64
		time   time.Duration
	}
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		ev, err := ParseSample(lines.Bytes(), group)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		tr := trial.Event(ev.Group, ev.Payload)
		total.events, total.fuel, total.time = total.events+1, total.fuel+tr.Fuel, total.time+tr.Duration
		fmt.Fprintf(w, "%d  %-7s  %s  fuel %d  %v  memory %d KiB\n", n, tr.Verdict, ev.Group, tr.Fuel, tr.Duration.Round(100*time.Nanosecond), tr.Memory>>10)
		if tr.Verdict == plugins.Failed {
			fmt.Fprintf(w, "     → %s\n", policyOutcome(spec.OnError))
		}
		for _, o := range tr.Outputs {
			to := o.Group
			if to == "" {
				to = ev.Group
			}
			audience := ""
			if o.Audience != ^uint64(0) {
				audience = fmt.Sprintf("  classes %#x", o.Audience)
			}
			fmt.Fprintf(w, "     → %s%s  %s\n", to, audience, o.Payload)
		}
		if err := compare(ev, tr); err != nil {
			wrong++
			fmt.Fprintf(w, "     ✗ %v\n", err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	if total.events == 0 {
		return errors.New("there are no events")
	}
	fmt.Fprintf(w, "%d events, %d wrong; on average fuel %d, %v\n", total.events, wrong, total.fuel/int64(total.events),
		(total.time / time.Duration(total.events)).Round(100*time.Nanosecond))
	if wrong > 0 {
		return fmt.Errorf("%d of %d events went wrong", wrong, total.events)
	}
	return nil
}

// policyOutcome says what a relay does with an event on which a plugin fails.
func policyOutcome(policy plugins.OnError) string {
	switch policy {
	case plugins.OnErrorPass:
		return "on_error pass: it is delivered as it came"
	case plugins.OnErrorDrop:
		return "on_error drop: it is not delivered, and clients are not told"
	case plugins.OnErrorLastGood:
		return "on_error last_good: the module before decides; without one, it is not delivered"
	}
	return "on_error withhold: it is not delivered"
}

// parseSample reads a line of events: a sample, or a payload alone.
func ParseSample(line []byte, group string) (ev plugins.Sample, err error) {
	if !json.Valid(line) {
		return ev, errors.New("it is not JSON")
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

// compare holds what a plugin did to what the event's line says.
func compare(ev plugins.Sample, tr plugins.Trace) error {
	switch {
	case tr.Err != nil:
		return tr.Err
	case ev.Verdict != "" && ev.Verdict != tr.Verdict.String():
		return fmt.Errorf("the verdict should be %s", ev.Verdict)
	case ev.Output != nil && (tr.Verdict != plugins.Replace || !equalJSON(ev.Output, tr.Outputs[0].Payload)):
		return fmt.Errorf("the output should be %s", ev.Output)
	}
	if len(ev.Emits) == 0 {
		return nil
	}
	emitted := tr.Outputs
	if tr.Verdict != plugins.Drop {
		emitted = emitted[1:] // the event's own output
	}
	if len(emitted) != len(ev.Emits) {
		return fmt.Errorf("there should be %d emitted events", len(ev.Emits))
	}
	for i, want := range ev.Emits {
		if emitted[i].Group != want.Group || !equalJSON(want.Payload, emitted[i].Payload) {
			return fmt.Errorf("emitted should be %s to %q", want.Payload, want.Group)
		}
	}
	return nil
}

// equalJSON compares two JSON texts but for white space.
func equalJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
