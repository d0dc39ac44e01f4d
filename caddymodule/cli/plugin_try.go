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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// pluginTestOptions are the flags of the command plugin test.
type pluginTestOptions struct {
	pluginSettings
	asJSON bool
}

func pluginTestCommand() *cobra.Command {
	var o pluginTestOptions
	cmd := &cobra.Command{
		Use:   "test <file.wasm> <samples.ndjson|->...",
		Short: "Run a plugin on samples, without a server",
		Long: "Runs a plugin on samples, a JSON object a line, and shows verdict, fuel, time, memory and output of\n" +
			"each call. The lines:\n\n" +
			"  {\"group\": \"…\", \"payload\": <JSON>}                 an event, for on_event\n" +
			"  {\"group\": \"…\", \"text\": \"…\"}                       an event that need not be JSON\n" +
			"  {\"group\": \"…\", \"payload\": <JSON>, \"class\": 1}     the view of a class, for on_class\n" +
			"  {\"group\": \"…\", \"user\": {…}}                       a subscription, for on_subscribe\n" +
			"  {\"hook\": \"…\", …}                                  any hook by name\n\n" +
			"The hooks of functions: {\"hook\": \"on_connect\", \"request\": {…}}, on_message with payload, text or\n" +
			"binary (base64), on_close with code, on_result with then, context, status and a body, on_alarm with name\n" +
			"and a payload. Lines with the same \"client\" are about one connection. \"attachment\" sets its\n" +
			"attachment. Expectations are \"effects\", in the form that this command prints, \"want_attachment\" and\n" +
			"\"want_status\".\n\n" +
			"Each may have \"source\", \"sent\" and \"clock\" (the time that the plugin sees from there on), and the\n" +
			"expectations \"verdict\", \"output\" or \"output_text\", \"audience\", \"emits\", \"want_class\" and\n" +
			"\"reason\".\n" +
			"A line without these members is a payload itself, JSON or not. Recordings of 'caddy edgerelay tail\n" +
			"--record' have this form, too. The lines of a file run in order, in one instance with one store.\n" +
			"The command fails if a call fails or an expectation is not met.",
		Example: `  caddy edgerelay plugin test redact.wasm events.ndjson --config '{"words": ["password"]}'`,
		Args:    cobra.MinimumNArgs(2),
		RunE:    runE(func(ctx context.Context, args []string) error { return o.run(ctx, args[0], args[1:]) }),
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON, an object for each sample and one for the sum")
	return cmd
}

// run runs the module in a file on the samples of other files; "-" is standard input.
func (o *pluginTestOptions) run(ctx context.Context, module string, files []string) error {
	return o.runTo(ctx, os.Stdout, os.Stderr, module, files)
}

// runTo is run with the results and the plugin's log lines to w and log.
func (o *pluginTestOptions) runTo(ctx context.Context, w, log io.Writer, module string, files []string) error {
	spec, err := o.spec(module)
	if err != nil {
		return err
	}
	clock, err := o.startClock()
	if err != nil {
		return err
	}
	t := pluginTest{w: w, spec: spec, group: o.group, clock: clock, asJSON: o.asJSON}
	if err := t.start(ctx, log); err != nil {
		return err
	}
	defer t.trial.Close()
	for _, name := range files {
		in := os.Stdin
		if name != "-" {
			if in, err = openFile("samples", name); err != nil {
				return err
			}
		}
		if len(files) > 1 {
			t.file = name
		}
		err := t.runFile(in)
		_ = in.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.finish()
}

// pluginTest is a run of samples.
type pluginTest struct {
	w      io.Writer
	spec   plugins.Spec
	group  string    // of samples that name none
	clock  time.Time // at the start of each file; zero: the real time
	asJSON bool
	file   string // its name, if there are several

	trial                *plugins.Trial
	count, wrong, notRun int
	missing              plugins.Hook // hooks of samples that the module does not export
	called               plugins.Hook // hooks of samples
	fuel                 int64
	duration             time.Duration
}

// start loads the module. The plugin's own log lines go to log.
func (t *pluginTest) start(ctx context.Context, log io.Writer) (err error) {
	logger := slog.New(slog.NewTextHandler(log, nil))
	t.trial, err = plugins.Try(ctx, pluginhost.TryOptions(logger), t.spec)
	return err
}

// runFile runs the samples of a file.
func (t *pluginTest) runFile(file io.Reader) error {
	t.trial.Reset(t.clock)
	if t.file != "" && !t.asJSON {
		fmt.Fprintf(t.w, "%s\n", t.file)
	}
	for samples, before := plugins.NewSampleReader(file, t.group), t.count; ; {
		s, err := samples.Next()
		if err == io.EOF {
			if t.count == before {
				return errors.New("no samples in the input")
			}
			return nil
		}
		if err != nil {
			return err
		}
		t.runSample(samples.Line(), &s)
	}
}

// runSample runs a sample and writes the result.
func (t *pluginTest) runSample(line int, s *plugins.Sample) {
	trace := t.trial.Run(s)
	err := s.Compare(&trace)
	t.count++
	t.called |= trace.Hook
	t.fuel += trace.Fuel
	t.duration += trace.Duration
	notRun := errors.Is(trace.Err, plugins.ErrNoHook)
	if err != nil {
		t.wrong++
	}
	if notRun {
		t.notRun++
	}
	switch {
	case t.asJSON:
		t.writeJSON(line, s, &trace, err)
	case notRun: // once for each hook
		if t.missing&trace.Hook == 0 {
			fmt.Fprintf(t.w, "%d  ✗ the module does not export ev_%s; no sample of %s runs\n", line, trace.Hook, trace.Hook)
		}
	default:
		writeTrace(t.w, line, s, &trace)
		if trace.Verdict == plugins.Failed && err != nil {
			fmt.Fprintf(t.w, "     → %s\n", policyOutcome(t.spec.OnError, trace.Hook))
		}
		if err != nil {
			fmt.Fprintf(t.w, "     ✗ %s\n", printable(err.Error()))
		}
	}
	if notRun {
		t.missing |= trace.Hook
	}
}

// finish writes the sum. It returns an error if a sample is wrong.
func (t *pluginTest) finish() error {
	called := max(1, t.count-t.notRun)
	fuel, duration := t.fuel/int64(called), (t.duration / time.Duration(called)).Round(100*time.Nanosecond)
	switch {
	case t.asJSON:
		writeJSONLine(t.w, testSum{
			t.count, t.wrong, t.notRun, fuel, duration.Seconds(),
			(t.trial.Hooks() &^ t.called).String(), plugins.CurrentEngine(),
		})
	case t.notRun > 0:
		fmt.Fprintf(t.w, "%d samples, %d wrong, of which %d not run; on average fuel %d, %v\n",
			t.count, t.wrong, t.notRun, fuel, duration)
	default:
		fmt.Fprintf(t.w, "%d samples, %d wrong; on average fuel %d, %v\n", t.count, t.wrong, fuel, duration)
	}
	if untested := t.trial.Hooks() &^ t.called; untested != 0 && !t.asJSON {
		fmt.Fprintf(t.w, "no sample of %s, which the module exports, too\n",
			strings.ReplaceAll(untested.String(), "|", ", "))
	}
	if !t.asJSON {
		warnOfInterpreter(t.w)
	}
	if t.wrong > 0 {
		return fmt.Errorf("%d of %d samples failed", t.wrong, t.count)
	}
	return nil
}

// warnOfInterpreter writes a line if this machine interprets modules, so that its times say little about another one.
func warnOfInterpreter(w io.Writer) {
	if plugins.CurrentEngine() == plugins.EngineInterpreter {
		fmt.Fprintln(w, "engine: interpreter. This machine runs plugins 20 to 100 times as slowly as one with the compiler")
	}
}

// writeTrace writes the result of the sample in a line.
func writeTrace(w io.Writer, line int, s *plugins.Sample, t *plugins.Trace) {
	what := s.Group
	switch t.Hook {
	case plugins.OnEvent:
	case plugins.OnClass:
		what = fmt.Sprintf("%s class %d  %s", t.Hook, *s.Class, s.Group)
	default:
		about := s.Group
		if f := s.Function; f != nil {
			about = cmp.Or(f.Client, f.Name, f.Then, about)
		}
		what = fmt.Sprintf("%s  %s", t.Hook, about)
	}
	if t.Verdict == plugins.Allow && t.Hook == plugins.OnSubscribe {
		what += fmt.Sprintf("  class %d", t.Class)
	}
	fmt.Fprintf(w, "%d  %-7s  %s  fuel %d  %v  memory %d KiB\n", line, verdictName(t.Verdict), printable(what), t.Fuel,
		t.Duration.Round(100*time.Nanosecond), t.Memory>>10)
	if t.Reason != "" {
		fmt.Fprintf(w, "     → denied: %s\n", printable(t.Reason))
	}
	for _, e := range t.Effects {
		fmt.Fprintf(w, "     → %s\n", printable(string(e)))
	}
	for _, o := range t.Outputs {
		to := cmp.Or(o.Group, s.Group)
		if t.Hook == plugins.OnClass {
			to = fmt.Sprintf("class %d", *s.Class)
		}
		audience := ""
		if o.Audience != ^uint64(0) {
			audience = fmt.Sprintf("  classes %#x", o.Audience)
		}
		fmt.Fprintf(w, "     → %s%s  %s\n", printable(to), audience, printable(string(o.Payload)))
	}
}

// verdictName returns the name of a verdict in samples.
func verdictName(v plugins.Verdict) string {
	if v == plugins.Failed {
		return "error"
	}
	return v.String()
}

// policyOutcome describes the result of a failed call of a hook.
func policyOutcome(policy plugins.OnError, hook plugins.Hook) string {
	switch {
	case hook == plugins.OnSubscribe:
		return "a failing on_subscribe denies"
	case hook == plugins.OnConnect:
		return "a failing on_connect rejects with 503"
	case hook == plugins.OnAlarm:
		return "the alarm comes again"
	case hook&(plugins.OnClose|plugins.OnResult) != 0:
		return "the call has no effects"
	case hook == plugins.OnMessage && (policy == plugins.OnErrorPass || policy == plugins.OnErrorDrop):
		return "the message is ignored"
	case hook == plugins.OnMessage:
		return "the connection is closed"
	case hook == plugins.OnTick:
		return "a failing on_tick emits nothing"
	case policy == plugins.OnErrorPass:
		return "on_error pass: delivered unchanged"
	case policy == plugins.OnErrorDrop:
		return "on_error drop: not delivered, and clients are not notified"
	case policy == plugins.OnErrorLastGood:
		return "on_error last_good: the previous module decides; without one, not delivered"
	}
	return "on_error withhold: not delivered"
}

// testResult is the result of a sample in the output of plugin test --json.
type testResult struct {
	File    string       `json:"file,omitempty"`
	Line    int          `json:"line"`
	Hook    string       `json:"hook"`
	Group   string       `json:"group,omitempty"`
	Verdict string       `json:"verdict"`
	OK      bool         `json:"ok"`
	Problem string       `json:"problem,omitempty"`
	Outputs []testOutput `json:"outputs,omitempty"`
	// Effects are those of a function, actions before requests. Attachment is the connection's after the call.
	Effects    []json.RawMessage `json:"effects,omitempty"`
	Attachment string            `json:"attachment,omitempty"`
	Status     int               `json:"status,omitempty"` // of a rejection
	// Class is that of the view or of the subscriber.
	Class   *uint8  `json:"class,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Error   string  `json:"error,omitempty"`
	Fuel    int64   `json:"fuel"`
	Seconds float64 `json:"seconds"`
	Memory  uint64  `json:"memory"`
}

// testOutput is an event: Payload if it is JSON, else Text.
type testOutput struct {
	Group    string          `json:"group,omitempty"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	Text     *string         `json:"text,omitempty"`
	Audience uint64          `json:"audience"`
}

// testSum is the last line of plugin test --json. Fuel and Seconds are averages.
type testSum struct {
	Samples int     `json:"samples"`
	Wrong   int     `json:"wrong"`
	NotRun  int     `json:"not_run"`
	Fuel    int64   `json:"fuel"`
	Seconds float64 `json:"seconds"`
	// Untested are the hooks of the module without a sample, such as "on_class|on_subscribe".
	Untested string `json:"untested,omitempty"`
	// Engine is compiler, or interpreter on a machine for which the engine has no compiler.
	Engine plugins.Engine `json:"engine"`
}

func (t *pluginTest) writeJSON(line int, s *plugins.Sample, trace *plugins.Trace, problem error) {
	r := testResult{
		File: t.file, Line: line, Hook: trace.Hook.String(), Group: s.Group, Verdict: verdictName(trace.Verdict),
		OK: problem == nil, Outputs: jsonOutputs(s.Group, trace.Outputs), Class: s.Class, Reason: trace.Reason,
		Fuel: trace.Fuel, Seconds: trace.Duration.Seconds(), Memory: trace.Memory,
	}
	for _, e := range trace.Effects {
		r.Effects = append(r.Effects, json.RawMessage(e))
	}
	r.Attachment, r.Status = trace.Attachment, trace.Status
	if trace.Verdict == plugins.Allow && trace.Hook == plugins.OnSubscribe {
		r.Class = &trace.Class
	}
	if problem != nil {
		r.Problem = problem.Error()
	}
	if trace.Err != nil {
		r.Error = trace.Err.Error()
	}
	writeJSONLine(t.w, r)
}

// jsonOutputs converts events for JSON. group is the group of events that name none.
func jsonOutputs(group string, outputs []plugins.Output) (list []testOutput) {
	for _, o := range outputs {
		out := testOutput{Group: cmp.Or(o.Group, group), Audience: o.Audience}
		if json.Valid(o.Payload) {
			out.Payload = o.Payload
		} else {
			text := string(o.Payload)
			out.Text = &text
		}
		list = append(list, out)
	}
	return list
}
