package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
)

// pluginRecordOptions are the flags of the command plugin record.
type pluginRecordOptions struct {
	address       string
	path, output  string
	size          string
	redact        []string
	connections   int
	limit         time.Duration
	open, secrets bool
}

func pluginRecordCommand() *cobra.Command {
	var o pluginRecordOptions
	cmd := &cobra.Command{
		Use:   "record <name>",
		Short: "Record what the connections of a function do, for plugin replay and plugin test",
		Long: "Records the connections that clients open from now on, on this node: the request of each client, its\n" +
			"messages, the answers to the function's requests, alarms and closes, each with the function's decision. A line\n" +
			"is a golden sample. The recording ends after --connections connections, at --for or --max-size, or by Ctrl-C; the\n" +
			"function is not held up. The clock of the function stands still during a recorded call.\n\n" +
			"Of the handshake, a recording has what the function may see. Credentials (the values of Cookie and\n" +
			"Authorization, and of query parameters such as token) are replaced by a text that is the same for the same\n" +
			"value. --redact names further headers, parameters and members. Messages are recorded as they are, and so are\n" +
			"the attachments of connections that --open adds: they can hold credentials. The file of --output is for its\n" +
			"owner only (mode 0600); a file that the shell opens for the standard output may not be.",
		Example: "  caddy edgerelay plugin record room --output visit.ndjson\n" +
			"  caddy edgerelay plugin record room --path '/ws/room/7/*' --connections 10 --for 5m --output visits.ndjson\n" +
			"  caddy edgerelay plugin replay room-2.wasm visits.ndjson",
		Args: cobra.ExactArgs(1),
	}
	address := addAddressFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.path, "path", "", "record the connections of this path only; * stands for any text. Default: all, and alarms")
	f.IntVar(&o.connections, "connections", plugins.DefaultRecordedConnections, "number of connections to record")
	f.DurationVar(&o.limit, "for", 30*time.Second, "end after this time, up to 1h")
	f.StringVar(&o.size, "max-size", "16MiB", "end at this size, up to 256MiB")
	f.BoolVar(&o.open, "open", false,
		"also connections that are open already; credentials in their attachments are not replaced")
	f.StringSliceVar(&o.redact, "redact", nil, "headers, query parameters and members of the request to replace, such as address,email")
	f.BoolVar(&o.secrets, "secrets", false, "keep the values of credentials")
	f.StringVar(&o.output, "output", "", "new file for the recording; default, and -: standard output")
	_ = f.SetAnnotation("output", writesStdout, []string{}) // fails for an unknown flag only
	cmd.RunE = runE(func(ctx context.Context, args []string) error {
		o.address = *address
		return o.run(ctx, args[0])
	})
	return cmd
}

func (o *pluginRecordOptions) run(ctx context.Context, name string) error {
	query, err := o.query()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	resp, err := requestAdmin(ctx, o.address, http.MethodGet, "/edgerelay/plugins/"+url.PathEscape(name)+"/recording?"+query, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	out := os.Stdout
	if o.output != "" && o.output != "-" {
		if out, err = openRecording(o.output, false, "use another name"); err != nil {
			return err
		}
		defer func() { _ = out.Close() }()
		fmt.Fprintf(os.Stderr, "recording connections of %s in %s, for up to %v; Ctrl-C ends\n", name, o.output, o.limit)
	}
	if warning := o.warning(out); warning != "" {
		fmt.Fprintln(os.Stderr, "warning: "+warning)
	}
	sum := recordedSum{}
	err = sum.copy(out, resp.Body)
	if ctx.Err() != nil {
		err = nil
	}
	fmt.Fprintln(os.Stderr, sum.text())
	return err
}

// warning tells of credentials in the recording, and of other users that can read it.
func (o *pluginRecordOptions) warning(out *os.File) string {
	var parts []string
	switch {
	case o.secrets:
		parts = append(parts, "the recording has the credentials of clients (--secrets)")
	case o.open:
		parts = append(parts,
			"the recording has attachments of open connections as they are (--open), which can hold credentials")
	}
	info, err := out.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		parts = append(parts, fmt.Sprintf("the file of the recording is readable by other users (mode %#o); "+
			"use --output, which creates a file for its owner only", info.Mode().Perm()))
	}
	return strings.Join(parts, "; ")
}

// query returns the parameters of the request.
func (o *pluginRecordOptions) query() (string, error) {
	size, err := settings.ParseSize(o.size, plugins.MaxRecordedBytes)
	switch {
	case err != nil:
		return "", usageErrorf("--max-size: %w", err)
	case o.connections < 1 || o.connections > plugins.MaxRecordedConnections:
		return "", usageErrorf("--connections %d: use 1 to %d", o.connections, plugins.MaxRecordedConnections)
	case o.limit <= 0 || o.limit > time.Hour:
		return "", usageErrorf("--for %v: use a duration of up to 1h", o.limit)
	}
	q := url.Values{"redact": o.redact}
	if o.path != "" {
		q.Set("path", o.path)
	}
	q.Set("connections", strconv.Itoa(o.connections))
	q.Set("for", o.limit.String())
	q.Set("bytes", strconv.FormatInt(size, 10))
	q.Set("open", strconv.FormatBool(o.open))
	q.Set("secrets", strconv.FormatBool(o.secrets))
	return q.Encode(), nil
}

// recordedSum counts the lines of a recording.
type recordedSum struct {
	connections, calls, missed int
}

// copy copies the lines of a recording.
func (sum *recordedSum) copy(w io.Writer, recording io.Reader) error {
	lines := bufio.NewReader(recording)
	clients := map[string]bool{}
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			return errors.New("the relay ended the recording; check whether the relay is running")
		case err != nil:
			return err
		}
		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("writing the recording: %w", err)
		}
		sum.count(line, clients)
	}
}

func (sum *recordedSum) count(line []byte, clients map[string]bool) {
	read := plugins.NewSampleReader(bytes.NewReader(line), "")
	s, err := read.Next()
	sum.missed += read.Missed
	if err != nil {
		return
	}
	sum.calls++
	if f := s.Function; f != nil && f.Client != "" && !clients[f.Client] {
		clients[f.Client] = true
		sum.connections++
	}
}

func (sum *recordedSum) text() string {
	text := fmt.Sprintf("%d calls of %d connections recorded", sum.calls, sum.connections)
	if sum.missed > 0 {
		text += fmt.Sprintf(", %d missed because they were too many or too long", sum.missed)
	}
	return text
}
