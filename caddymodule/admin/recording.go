package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/plugins"
)

const (
	defaultRecordingTime = 30 * time.Second
	maxRecordingTime     = time.Hour
)

// serveRecording streams what the connections of a function do, as golden samples, until the recording or the request
// ends.
func serveRecording(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	options, limit, err := recordingOptions(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	name := r.PathValue("name")
	recording, err := h.Pipeline.Record(name, options)
	switch {
	case errors.Is(err, plugins.ErrRecording):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return pluginError(err)
	}
	defer recording.Close()
	n.Log.Info("connections are recorded by an operator", "plugin", name, "path", options.Path,
		"count", options.Connections, "duration", limit, "secrets", options.Secrets)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the admin server's deadline would end the request after ten seconds
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return nil
	}
	defer time.AfterFunc(limit, recording.Close).Stop()
	return writeRecording(r.Context(), w, control, recording)
}

// writeRecording writes the lines of a recording until it ends.
func writeRecording(
	ctx context.Context, w http.ResponseWriter, control *http.ResponseController, recording *plugins.Recording,
) error {
	for {
		lines, err := recording.Next(ctx)
		if err != nil {
			return nil // the end of the recording or of the request
		}
		if _, err := w.Write(lines); err != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return nil
		}
	}
}

// recordingOptions reads the parameters of a recording.
func recordingOptions(q url.Values) (o plugins.RecordingOptions, limit time.Duration, err error) {
	if err := rejectUnknownParameters(q, "path", "connections", "for", "bytes", "open", "redact", "secrets"); err != nil {
		return o, 0, err
	}
	o.Path, o.Redact = q.Get("path"), q["redact"]
	limit = defaultRecordingTime
	if text := q.Get("for"); text != "" {
		limit, err = caddy.ParseDuration(text)
		if err != nil || limit <= 0 || limit > maxRecordingTime {
			return o, 0, fmt.Errorf("invalid for %q; use a duration of up to %v, such as 30s", text, maxRecordingTime)
		}
	}
	connections, err := IntParameter(
		q, "connections", plugins.DefaultRecordedConnections, 1, plugins.MaxRecordedConnections)
	if err != nil {
		return o, 0, err
	}
	o.Connections = int(connections)
	if o.Bytes, err = IntParameter(q, "bytes", plugins.DefaultRecordedBytes, 1, plugins.MaxRecordedBytes); err != nil {
		return o, 0, err
	}
	for name, to := range map[string]*bool{"open": &o.Open, "secrets": &o.Secrets} {
		switch text := q.Get(name); text {
		case "true":
			*to = true
		case "", "false":
		default:
			return o, 0, fmt.Errorf("invalid %s %q; use true or false", name, text)
		}
	}
	return o, limit, nil
}
