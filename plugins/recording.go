package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Bounds of a recording.
const (
	DefaultRecordedConnections = 100
	DefaultRecordedBytes       = 16 << 20
	MaxRecordedConnections     = 10_000
	MaxRecordedBytes           = 256 << 20

	maxRecordedBuffer = 4 << 20  // bytes that the reader has not fetched yet
	maxRecordedRandom = 64 << 10 // bytes of random_get in a call
)

// RecordingOptions select the connections of a [Recording], and bound it.
type RecordingOptions struct {
	// Path is a pattern of paths, in which * stands for any text. Empty: all paths, and the alarms, which have no path.
	Path string
	// Connections is the number of connections after which no other one is recorded. Default: DefaultRecordedConnections.
	Connections int
	// Open includes connections that were open before the recording. Their first line has their attachment.
	// Credentials in it are not replaced: the host does not know them any more.
	Open bool
	// Bytes is the length of the recording at which it ends. Default: DefaultRecordedBytes.
	Bytes int64
	// Redact names headers, query parameters, and members of the request at any depth, whose texts are replaced, besides
	// those of credentials.
	Redact []string
	// Secrets leaves the values of credentials in the recording.
	Secrets bool
}

func (o *RecordingOptions) withDefaults() error {
	setDefault(&o.Connections, DefaultRecordedConnections)
	setDefault(&o.Bytes, DefaultRecordedBytes)
	switch {
	case o.Connections < 1 || o.Connections > MaxRecordedConnections:
		return fmt.Errorf("recording: %d connections; use 1 to %d", o.Connections, MaxRecordedConnections)
	case o.Bytes < 1 || o.Bytes > MaxRecordedBytes:
		return fmt.Errorf("recording: %d bytes; use 1 to %d", o.Bytes, MaxRecordedBytes)
	}
	return nil
}

// ErrRecording is the error of a second recording of a plugin.
var ErrRecording = errors.New(
	"the function's connections are being recorded already; wait for the end of that recording")

// Recording takes down the calls of a function as golden samples, a line each: the input, and the function's decision.
// It holds no call up: what its reader is too slow for is missing. It ends with its plugin, if a configuration has the
// plugin no longer. Methods are safe for concurrent use.
type Recording struct {
	plugin  *plugin
	options RecordingOptions
	redact  *redactor

	mu      sync.Mutex // guards the fields below
	clients map[uint64]*recordedClient
	open    int             // connections that are not over
	tokens  map[int64]int64 // of requests without an answer, with their numbers in the recording
	asked   int64           // requests
	bytes   int64
	buffer  []byte
	dropped int // lines, since the reader was told last
	over    bool
	wake    chan struct{} // has an element if there is news
}

// recordedClient is a client whose connection is recorded.
type recordedClient struct {
	secrets *secretTexts // nil without secrets
	begun   bool         // a line has been written
	cut     bool         // a line is missing, so later lines would make no sense
	closed  bool
}

// Record begins the recording of a function's connections. Close ends it.
func (p *Pipeline) Record(function string, o RecordingOptions) (*Recording, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	pl := p.find(function)
	switch {
	case pl == nil:
		return nil, unknownPlugin(function)
	case !p.HasFunction(function):
		return nil, fmt.Errorf(
			"plugin %s: the module has no hooks for clients; record events by 'caddy edgerelay tail --record'", function)
	}
	r := &Recording{
		plugin: pl, options: o, redact: newRedactor(o.Redact, o.Secrets), clients: map[uint64]*recordedClient{},
		tokens: map[int64]int64{}, wake: make(chan struct{}, 1),
	}
	if !pl.recording.CompareAndSwap(nil, r) {
		return nil, fmt.Errorf("plugin %s: %w", function, ErrRecording)
	}
	if pl.live() == nil { // A configuration has removed the plugin meanwhile.
		r.Close()
		return nil, unknownPlugin(function)
	}
	return r, nil
}

// Recorded reports whether the connections of a function are recorded now.
func (p *Pipeline) Recorded(function string) bool {
	pl := p.find(function)
	return pl != nil && pl.recording.Load() != nil
}

// Close ends the recording. Next returns the rest.
func (r *Recording) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
}

// end ends the recording. The caller holds r.mu.
func (r *Recording) end() {
	if !r.over {
		r.over = true
		r.plugin.recording.CompareAndSwap(r, nil)
		r.tell()
	}
}

func (r *Recording) tell() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Next waits for lines, and returns them. The error is io.EOF at the end of the recording, or that of ctx.
func (r *Recording) Next(ctx context.Context) ([]byte, error) {
	for {
		if lines, over := r.take(); len(lines) > 0 {
			return lines, nil
		} else if over {
			return nil, io.EOF
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns the lines that have not been fetched yet.
func (r *Recording) take() (lines []byte, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, r.buffer = r.buffer, nil
	if r.dropped > 0 {
		lines = fmt.Appendf(lines, "{\"dropped\":%d}\n", r.dropped)
		r.dropped = 0
	}
	return lines, r.over
}

// notCalled reports whether a call has failed before the function ran.
func notCalled(err error) bool {
	var failure *Failure
	return err != nil && !errors.Is(err, ErrRefused) && !errors.As(err, &failure)
}

// complete reports whether all connections that the recording may have are over, and all answers are there.
func (r *Recording) complete() bool {
	return r.open == 0 && len(r.clients) >= r.options.Connections && len(r.tokens) == 0
}

// write appends the line of a client's call, or of one without a client. The caller holds r.mu.
func (r *Recording) write(c *recordedClient, line []byte, missing bool) {
	if c == nil {
		c = &recordedClient{}
	}
	if r.over || c.cut {
		r.dropped++
		return
	}
	if missing || len(r.buffer)+len(line) > maxRecordedBuffer && len(r.buffer) > 0 {
		c.cut = true
		r.dropped++
		r.tell()
		return
	}
	if r.bytes += int64(len(line)); r.bytes > r.options.Bytes {
		r.dropped++
		r.end()
		return
	}
	c.begun = true
	r.buffer = append(r.buffer, line...)
	r.tell()
}
