package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// tailOptions are the flags of the command tail.
type tailOptions struct {
	address             string
	raw, asJSON, append bool
	class, count        int
	record, plugin      string
	since               string
	limit               time.Duration
}

func tailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail <group>... | tail --plugin <name>",
		Short: "Follow the events of groups, or record them",
		Long: "Shows the events of groups until Ctrl-C, as clients of this node receive them; with --raw, before\n" +
			"plugins. A group may be a pattern such as 'job_events-*': then the tail shows the events that reach\n" +
			"this node for its clients and plugins. Events that arrive too fast are dropped and counted. A tail\n" +
			"never delays deliveries.\n\n" +
			"--record writes the events to a file, before plugins and byte by byte, with group, source and times:\n" +
			"the input of 'plugin test' and 'plugin replay'. A recording holds what plugins redact for clients. The\n" +
			"file is for its owner only (mode 0600). --plugin selects the groups that a plugin is bound to.\n\n" +
			"--since begins with the events of the groups' histories, and goes on with live ones; 'position' in the output\n" +
			"of --json is a value of --since. The groups need a history, and may not be patterns.",
		Example: "  caddy edgerelay tail job_events-42\n" +
			"  caddy edgerelay tail --since 5m job_events-42\n" +
			"  caddy edgerelay tail --since 'latest 20' job_events-42\n" +
			"  caddy edgerelay tail --json jobs-status_changed | jq .data.status\n" +
			"  caddy edgerelay tail --record traffic.ndjson --for 5m 'job_events-*' jobs-status_changed\n" +
			"  caddy edgerelay tail --record traffic.ndjson --count 1000 --plugin redact",
	}
	address := addAddressFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.raw, "raw", false, "show events before plugins")
	f.IntVar(&o.class, "class", 0, "audience class, for plugins that render events by class")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, an object a line, with group, times and source")
	f.StringVar(&o.record, "record", "", "write the events before plugins to this new file, for plugin test and replay")
	f.StringVar(&o.plugin, "plugin", "", "the groups that this plugin is bound to, besides those named")
	f.BoolVar(&o.append, "append", false, "with --record: append to the file if it exists")
	f.IntVar(&o.count, "count", 0, "end after this number of events")
	f.DurationVar(&o.limit, "for", 0, "end after this time, such as 5m")
	f.StringVar(&o.since, "since", "",
		"begin with the history: a duration (5m), a time (2006-01-02T15:04:05Z), 'latest 20', or a position")
	cmd.RunE = runE(func(ctx context.Context, args []string) error {
		o.address = *address
		return o.run(ctx, args)
	})
	return cmd
}

func (o *tailOptions) run(ctx context.Context, groups []string) (err error) {
	switch {
	case o.record != "" && o.class != 0:
		return usageErrorf("--record and --class exclude each other: a recording holds events before plugins")
	case o.record == "" && o.append:
		return usageErrorf("--append is for --record; add --record <file>")
	case o.count < 0 || o.limit < 0:
		return usageErrorf("--count or --for is negative; use a positive value")
	case len(groups) == 0 && o.plugin == "":
		return usageErrorf("no group; name one or more, or a plugin with --plugin")
	}
	if o.plugin != "" {
		bound, err := pluginGroups(ctx, o.address, o.plugin)
		if err != nil {
			return err
		}
		groups = append(groups, bound...)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if o.limit > 0 {
		ctx, stop = context.WithTimeout(ctx, o.limit)
		defer stop()
	}
	out := &tailWriter{w: os.Stdout, asJSON: o.asJSON, limit: o.count}
	out.showGroup = len(groups) > 1 || strings.Contains(groups[0], "*")
	if o.record != "" {
		file, err := openRecording(o.record, o.append, "use another name, or --append")
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		out.w, out.record = file, true
		defer func() {
			fmt.Fprintf(os.Stderr, "%d events recorded, %d missed because they arrived too fast\n", out.events, out.missed)
		}()
	}
	return o.follow(ctx, groups, out)
}

// pluginGroups returns the groups and patterns that a plugin of the running relay is bound to. A shadow processes the
// events of another plugin.
func pluginGroups(ctx context.Context, address, name string) ([]string, error) {
	var list []pluginhost.Status
	if err := getAdmin(ctx, address, "/edgerelay/plugins", &list); err != nil {
		return nil, err
	}
	for _, p := range list {
		if p.Name == name && len(p.Groups) > 0 {
			return p.Groups, nil
		}
	}
	for _, p := range list {
		if p.Name == name {
			return nil, fmt.Errorf("the plugin %s is bound to no groups; name groups, or the plugin that it shadows", name)
		}
	}
	return nil, fmt.Errorf("no plugin %q; 'caddy edgerelay plugin list' shows the plugins", name)
}

// openRecording creates a file that only its owner may read. An existing file is an error, with the remedy, unless more
// may be appended.
func openRecording(name string, more bool, remedy string) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if more {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	file, err := os.OpenFile(name, flags, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("creating the recording: %s exists; %s", name, remedy)
	}
	if err != nil {
		return nil, unwritable("recording", name, err)
	}
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s is readable by other users (mode %#o), and a recording holds secrets; use chmod 600",
			name, info.Mode().Perm())
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// follow writes the events of all groups until ctx ends, the limit is reached, or the relay ends a tail.
func (o *tailOptions) follow(ctx context.Context, groups []string, out *tailWriter) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop(nil)
	for i, group := range groups {
		resp, err := requestAdmin(ctx, o.address, http.MethodGet, o.path(group), nil)
		if err != nil && errors.Is(context.Cause(ctx), errTailFull) {
			return nil // another group's tail has reached the limit
		}
		if err != nil {
			return err
		}
		following.Go(func() {
			defer func() { _ = resp.Body.Close() }()
			err := out.copy(resp.Body, groups[:i])
			if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the relay ended the tail; check whether the relay is running")
			}
			stop(err)
		})
	}
	if out.record {
		fmt.Fprintf(os.Stderr, "recording events before plugins in %s, with all secrets in them; Ctrl-C ends\n", o.record)
	}
	<-ctx.Done()
	switch err := context.Cause(ctx); {
	case errors.Is(err, errTailFull), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	default:
		return err
	}
}

// path returns the request of a group's tail.
func (o *tailOptions) path(group string) string {
	q := url.Values{}
	q.Set("raw", strconv.FormatBool(o.raw || o.record != ""))
	q.Set("class", strconv.Itoa(o.class))
	if o.record != "" {
		q.Set("format", "recording")
	}
	if o.since != "" {
		q.Set("since", o.since)
	}
	return "/edgerelay/groups/" + url.PathEscape(group) + "/tail?" + q.Encode()
}

// errTailFull ends a tail that has reached its limit.
var errTailFull = errors.New("the limit of events is reached")

// tailWriter writes the lines of one or more tails. Its methods may be called concurrently.
type tailWriter struct {
	w                         io.Writer
	record, asJSON, showGroup bool
	limit                     int // of events; 0: none

	mu             sync.Mutex // guards w and the counts
	events, missed int
}

// copy writes the lines of a tail until it ends, without the events that the tails of other groups or patterns write.
// errTailFull means that the limit is reached.
func (t *tailWriter) copy(lines io.Reader, others []string) error {
	r := bufio.NewReader(lines)
	for {
		line, err := readLine(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := t.write(line, others); err != nil {
			return err
		}
	}
}

// tailLine is a line of a tail: an event, or the number of events that are missing, or the reason for which events of
// the history are.
type tailLine struct {
	admin.TailEvent
	Dropped      int    `json:"dropped"`
	NotRecovered string `json:"not_recovered"`
}

// isGap reports whether the line stands for events that are missing.
func (l *tailLine) isGap() bool { return l.Dropped > 0 || l.NotRecovered != "" }

// write writes a line of a tail, unless another tail writes the event.
func (t *tailWriter) write(line []byte, others []string) error {
	var ev tailLine
	if err := json.Unmarshal(line, &ev); err != nil {
		return fmt.Errorf("decoding the tail: %w", err)
	}
	if slices.ContainsFunc(others, func(pattern string) bool {
		ok, err := path.Match(pattern, ev.Group)
		return ok && err == nil && !ev.isGap()
	}) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit > 0 && t.events >= t.limit {
		return errTailFull
	}
	switch {
	case t.record && ev.NotRecovered != "": // no sample
		fmt.Fprintln(os.Stderr, t.text(&ev))
		return nil
	case t.record: // as it is
	case t.asJSON:
		line = []byte(printable(string(line[:len(line)-1])) + "\n")
	default:
		line = []byte(t.text(&ev) + "\n")
	}
	if _, err := t.w.Write(line); err != nil {
		return fmt.Errorf("writing the events: %w", err)
	}
	if ev.isGap() {
		t.missed += ev.Dropped
		return nil
	}
	if t.events++; t.events == t.limit {
		return errTailFull
	}
	return nil
}

// text returns a line for people.
func (t *tailWriter) text(ev *tailLine) string {
	at := ev.At.Local().Format(tailTime)
	if ev.NotRecovered != "" {
		return fmt.Sprintf("%s … events may be missing: %s", at, strings.ReplaceAll(printable(ev.NotRecovered), "_", " "))
	}
	if ev.Dropped > 0 {
		return fmt.Sprintf("%s … %d events dropped: they arrived too fast", at, ev.Dropped)
	}
	text := at + " "
	if t.showGroup {
		text += ev.Group + " "
	}
	if ev.Type != "" {
		text += printable(ev.Type) + " "
	}
	text += printable(string(ev.Data) + ev.Text)
	if lag := ev.At.Sub(ev.Sent); !ev.Sent.IsZero() && lag >= time.Second {
		text += fmt.Sprintf("  (published %v earlier)", lag.Round(time.Millisecond))
	}
	return text
}

// tailTime is the layout of times.
const tailTime = "15:04:05.000"
