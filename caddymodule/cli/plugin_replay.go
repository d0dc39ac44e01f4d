package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// pluginReplayOptions are the flags of the command plugin replay.
type pluginReplayOptions struct {
	pluginSettings
	against, againstConfig string
	classes                []uint
	ignore                 []string
	show                   int
	asJSON                 bool
}

func pluginReplayCommand() *cobra.Command {
	var o pluginReplayOptions
	cmd := &cobra.Command{
		Use:   "replay <file.wasm> <recording|->",
		Short: "Run a plugin on recorded traffic, and compare two versions of it",
		Long: "Runs a plugin on a recording of 'caddy edgerelay tail --record', with the recorded times, and shows\n" +
			"verdicts, failures, fuel and time. With --against, the command runs another version on the same events,\n" +
			"shows each event whose result differs for clients, and fails if there is one. Plugins with on_class\n" +
			"render each event for the classes of --class. A recording of any size takes constant memory.\n" +
			"A recording of 'caddy edgerelay plugin record' is run conversation by conversation, with the recorded answers\n" +
			"to the function's requests. The command shows each call whose decision differs from the recorded one, or\n" +
			"with --against from that of the other version, and fails if there is one. Members of JSON that differ in any\n" +
			"case, such as random ids, are left out by --ignore.\n" +
			"Circuit breakers are not part of a replay: the plugin is called for every event. on_tick is called at its\n" +
			"interval between the recorded times, and ten times after the last event.",
		Example: "  caddy edgerelay tail --record traffic.ndjson --for 5m 'job_events-*'\n" +
			"  caddy edgerelay plugin replay redact-2.wasm traffic.ndjson --against redact-1.wasm\n" +
			"  caddy edgerelay plugin record room --output visits.ndjson --for 1m\n" +
			"  caddy edgerelay plugin replay room-2.wasm visits.ndjson --ignore id",
		Args: cobra.ExactArgs(2),
		RunE: runE(func(ctx context.Context, args []string) error { return o.run(ctx, args[0], args[1]) }),
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.against, "against", "", "file of the version to compare with")
	f.StringVar(&o.againstConfig, "against-config", "", "configuration of that version; default: that of --config")
	f.UintSliceVar(&o.classes, "class", []uint{0, 1}, "classes to render events for, if the plugin has on_class")
	f.StringSliceVar(&o.ignore, "ignore", nil, "members of JSON that are not compared, such as id, in calls of functions")
	f.IntVar(&o.show, "show", 20, "number of differing or failed events to show; -1: all")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, an object for each differing or failed event and one for the sum")
	return cmd
}

func (o *pluginReplayOptions) run(ctx context.Context, module, recording string) error {
	r, err := o.replay(ctx, module)
	if err != nil {
		return err
	}
	defer r.close()
	in := os.Stdin
	if recording != "-" {
		if in, err = openFile("recording", recording); err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
	}
	if err := r.run(in, o.group); err != nil {
		return fmt.Errorf("%s: %w", recording, err)
	}
	return r.finish()
}

// replay loads the versions.
func (o *pluginReplayOptions) replay(ctx context.Context, module string) (r *replay, err error) {
	r = &replay{w: os.Stdout, show: o.show, asJSON: o.asJSON, ignore: o.ignore, tick: cmp.Or(o.tick, time.Second)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.clock, err = o.startClock(); err != nil {
		return r, err
	}
	for _, c := range o.classes {
		if c > 63 {
			return r, usageErrorf("--class %d: classes are 0 to 63", c)
		}
		r.classes = append(r.classes, uint8(c))
	}
	if o.against == "" && o.againstConfig != "" {
		o.against = module // two configurations of one module
	}
	if o.against != "" {
		if err := r.load(ctx, &o.pluginSettings, o.against, cmp.Or(o.againstConfig, o.config)); err != nil {
			return r, err
		}
	}
	err = r.load(ctx, &o.pluginSettings, module, o.config)
	return r, err
}

// slowestShown is the number of slowest events that a replay shows.
const slowestShown = 3

// replay is a run of a recording. With two versions, the first is the one to compare with.
type replay struct {
	w       io.Writer
	clock   time.Time // until a line has one; zero: the time of the start
	classes []uint8
	ignore  []string // members of JSON that are not compared in calls of functions
	show    int      // events to show; negative: all
	asJSON  bool

	tick     time.Duration // interval of on_tick
	nextTick time.Time     // zero: no line has had a time yet, or no version has the hook

	versions []*replayedVersion
	events   int
	ticks    int
	missed   int // events that the recording lacks
	skipped  int // calls of functions that would not happen
	differ   int
	shown    int
	clients  map[string]bool // of functions; whether a call differs
}

// replayedVersion is a version of a plugin, with the sums of its calls.
type replayedVersion struct {
	name     string
	file     string
	trial    *plugins.Trial
	verdicts map[string]int
	failed   int
	fuel     distribution
	time     distribution // nanoseconds
	memory   uint64
	slowest  []slowEvent // slowest first
}

// slowEvent is an event that took long.
type slowEvent struct {
	Line    int     `json:"line"`
	Group   string  `json:"group"`
	Seconds float64 `json:"seconds"`
}

func (r *replay) close() {
	for _, v := range r.versions {
		v.trial.Close()
	}
}

// load loads a version. Its log lines go to standard error.
func (r *replay) load(ctx context.Context, o *pluginSettings, file, config string) error {
	settings := *o
	settings.config = config
	spec, err := settings.spec(file)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	trial, err := plugins.Try(ctx, pluginhost.TryOptions(logger), spec)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.add(file, trial)
	return nil
}

// add adds a version. Its name is that of the file, or the path if the names are equal.
func (r *replay) add(file string, trial *plugins.Trial) {
	name := filepath.Base(file)
	if len(r.versions) == 1 && r.versions[0].name == name {
		other := r.versions[0]
		if other.name, name = other.file, file; other.name == name {
			other.name, name = "against", "tested"
		}
	}
	r.versions = append(r.versions, &replayedVersion{name: name, file: file, trial: trial, verdicts: map[string]int{}})
}

// run takes the events of a recording through all versions. group is the group of lines that name none.
func (r *replay) run(recording io.Reader, group string) error {
	if r.clock.IsZero() {
		r.clock = time.Now() // the same for both versions, so that no difference comes from it
	}
	for _, v := range r.versions {
		v.trial.Reset(r.clock)
	}
	for lines := plugins.NewSampleReader(recording, group); ; {
		s, err := lines.Next()
		r.missed = lines.Missed
		if err == io.EOF {
			if r.events == 0 {
				return errors.New("no events in the recording")
			}
			r.tickUntil(lines.Line(), r.nextTick.Add((ticksAfterLast-1)*r.tick))
			return nil
		}
		if err != nil {
			return err
		}
		r.tickUntil(lines.Line(), s.Clock)
		r.events++
		if isCall(&s) {
			r.replayCall(lines.Line(), &s)
		} else {
			r.replaySample(lines.Line(), &s)
		}
	}
}

const (
	// maxTicks is the number of ticks between two events, so that a long silence does not take long.
	maxTicks = 1000
	// ticksAfterLast is the number of ticks after the last event, in which plugins deliver what they hold back.
	ticksAfterLast = 10
)

// tickUntil calls on_tick at the interval until a time, as a relay does between two events. line is that of the later
// event.
func (r *replay) tickUntil(line int, t time.Time) {
	if t.IsZero() || !slices.ContainsFunc(r.versions, func(v *replayedVersion) bool {
		return v.trial.Hooks()&plugins.OnTick != 0
	}) {
		return
	}
	if r.nextTick.IsZero() {
		r.nextTick = t.Add(r.tick)
		return
	}
	for n := 0; n < maxTicks && !r.nextTick.After(t); n++ {
		r.ticks++
		r.replaySample(line, &plugins.Sample{Hook: plugins.OnTick, Clock: r.nextTick})
		r.nextTick = r.nextTick.Add(r.tick)
	}
	if late := t.Sub(r.nextTick); late >= 0 {
		r.nextTick = r.nextTick.Add((late/r.tick + 1) * r.tick)
	}
}

// replaySample takes an event or a tick through all versions, and shows a difference or a failure.
func (r *replay) replaySample(line int, s *plugins.Sample) {
	results := make([]plugins.Delivery, len(r.versions))
	for i, v := range r.versions {
		results[i] = v.trial.Deliver(s, r.classes)
		v.count(line, s.Group, &results[i])
	}
	if len(results) == 1 {
		if err := results[0].Failure(); err != nil {
			r.showEvent(line, s, results, []string{err.Error()})
		}
		return
	}
	if lines := results[0].Differences(&results[1], maxDifferencesShown); lines != nil {
		r.differ++
		r.showEvent(line, s, results, lines)
	}
}

// maxDifferencesShown is the number of lines about a differing event.
const maxDifferencesShown = 8

// count adds a delivery to the sums.
func (v *replayedVersion) count(line int, group string, d *plugins.Delivery) {
	if d.Hook != plugins.OnTick {
		v.verdicts[verdictName(d.Verdict)]++
	}
	if d.Failure() != nil {
		v.failed++
	}
	if d.Called == 0 {
		return
	}
	v.fuel.add(d.Fuel)
	v.time.add(int64(d.Duration))
	v.memory = max(v.memory, d.Memory)
	slow := slowEvent{line, group, d.Duration.Seconds()}
	at, _ := slices.BinarySearchFunc(v.slowest, slow, func(a, b slowEvent) int {
		return cmp.Compare(b.Seconds, a.Seconds)
	})
	if at < slowestShown {
		v.slowest = slices.Insert(v.slowest, at, slow)
		v.slowest = v.slowest[:min(len(v.slowest), slowestShown)]
	}
}

// replayedEvent is a differing or failed event in the output of plugin replay --json.
type replayedEvent struct {
	Line        int              `json:"line"`
	Group       string           `json:"group"`
	Client      string           `json:"client,omitempty"`
	Hook        string           `json:"hook"`
	Decisions   []replayDecision `json:"decisions"`
	Differences []string         `json:"differences,omitempty"`
}

// replayDecision is the result of a version.
type replayDecision struct {
	Version string       `json:"version"`
	Verdict string       `json:"verdict"`
	Outputs []testOutput `json:"outputs,omitempty"`
	Class   *uint8       `json:"class,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Error   string       `json:"error,omitempty"`
	// Effects, Attachment and Status are those of a function.
	Effects    []json.RawMessage `json:"effects,omitempty"`
	Attachment string            `json:"attachment,omitempty"`
	Status     int               `json:"status,omitempty"`
}

// showEvent writes an event that differs or has failed, up to a number of events.
func (r *replay) showEvent(line int, s *plugins.Sample, results []plugins.Delivery, details []string) {
	if r.show >= 0 && r.shown >= r.show {
		return
	}
	r.shown++
	if r.asJSON {
		ev := replayedEvent{Line: line, Group: s.Group, Hook: results[0].Hook.String()}
		if len(results) > 1 || isCall(s) {
			ev.Differences = details
		}
		if f := s.Function; f != nil {
			ev.Client = f.Client
		}
		for i := range results {
			ev.Decisions = append(ev.Decisions, r.decision(s, i, &results[i]))
		}
		writeJSONLine(r.w, ev)
		return
	}
	switch {
	case isCall(s):
		fmt.Fprintf(r.w, "%d  %s\n", line, printable(callName(s)))
	case s.Hook == plugins.OnTick:
		fmt.Fprintf(r.w, "%d  tick at %s\n", line, s.Clock.Format(time.RFC3339Nano))
	default:
		fmt.Fprintf(r.w, "%d  %s\n", line, printable(s.Group))
	}
	for i := range results {
		d := &results[i]
		text := verdictName(d.Verdict)
		if err := d.Failure(); err != nil && len(results) > 1 {
			text = "error: " + err.Error()
		}
		fmt.Fprintf(r.w, "     %s: %s\n", r.versions[i].name, printable(text))
	}
	for _, detail := range details {
		fmt.Fprintf(r.w, "     ✗ %s\n", printable(detail))
	}
}

func (r *replay) decision(s *plugins.Sample, version int, d *plugins.Delivery) replayDecision {
	out := replayDecision{
		Version: r.versions[version].name, Verdict: verdictName(d.Verdict), Outputs: jsonOutputs(s.Group, d.Outputs),
		Reason: d.Reason,
	}
	for _, e := range d.Effects {
		out.Effects = append(out.Effects, json.RawMessage(e))
	}
	out.Attachment, out.Status = d.Attachment, d.Status
	if d.Verdict == plugins.Allow && d.Hook == plugins.OnSubscribe {
		out.Class = &d.Class
	}
	if err := d.Failure(); err != nil {
		out.Error = err.Error()
	}
	return out
}
