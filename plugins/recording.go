package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
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
var ErrRecording = errors.New("the function's connections are being recorded already; wait for the end of that recording")

// Recording takes down the calls of a function as golden samples, a line each: the input, and the function's decision. It
// holds no call up: what its reader is too slow for is missing. Methods are safe for concurrent use.
type Recording struct {
	plugin  *plugin
	options RecordingOptions
	redact  *redactor

	mu      sync.Mutex // guards the fields below
	clients map[uint64]*recordedClient
	begun   int             // connections
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
		return nil, fmt.Errorf("plugin %s: the module has no hooks for clients; record events by 'caddy edgerelay tail --record'",
			function)
	}
	r := &Recording{
		plugin: pl, options: o, redact: newRedactor(o.Redact, o.Secrets), clients: map[uint64]*recordedClient{},
		tokens: map[int64]int64{}, wake: make(chan struct{}, 1),
	}
	if !pl.recording.CompareAndSwap(nil, r) {
		return nil, fmt.Errorf("plugin %s: %w", function, ErrRecording)
	}
	return r, nil
}

// Close ends the recording. Next returns what is left.
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

// callRecord is a call that is recorded. The instance sets the time and the random bytes.
type callRecord struct {
	recording *Recording
	client    *recordedClient // nil without a client
	sample    Sample
	function  FunctionSample
	at        time.Time // at which the clock of the plugin stands still during the call; zero before
	random    []byte
}

// begin begins the record of a call for a client, nil if the client is not recorded.
func (r *Recording) begin(hook Hook, c *Connection) *callRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	client := r.clients[c.id]
	if client == nil {
		if hook != OnConnect && (!r.options.Open || hook == OnClose || c.phase == connectionEnded) ||
			r.begun >= r.options.Connections || r.options.Path != "" && !match(r.options.Path, c.place) {
			return nil
		}
		client = &recordedClient{}
		r.clients[c.id] = client
		r.begun++
	}
	rec := r.newRecord(hook, client)
	rec.function.Client = ConnectionIDText(c.id)
	if !client.begun && hook != OnConnect {
		rec.function.setAttachment(c.attachment)
	}
	return rec
}

// beginWithout begins the record of a call without a client: of an alarm, or of the answer to a request that a recorded
// call has made.
func (r *Recording) beginWithout(hook Hook, token int64) *callRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.tokens[token]
	if r.over || r.options.Path != "" || hook == OnResult && !known {
		return nil
	}
	return r.newRecord(hook, nil)
}

func (r *Recording) newRecord(hook Hook, client *recordedClient) *callRecord {
	rec := &callRecord{recording: r, client: client}
	rec.sample.Hook, rec.sample.Function = hook, &rec.function
	return rec
}

// start sets the time at which the clock of the plugin stands still during the call.
func (rec *callRecord) start(now time.Time) { rec.at, rec.random = now.Round(0), nil }

// addRandom keeps bytes that the plugin gets from random_get.
func (rec *callRecord) addRandom(b []byte) {
	if len(rec.random)+len(b) <= maxRecordedRandom {
		rec.random = append(rec.random, b...)
	}
}

// alarm begins the record of an alarm, nil if alarms are not recorded.
func (r *Recording) alarm(name string, payload []byte) *callRecord {
	rec := r.beginWithout(OnAlarm, 0)
	if rec != nil {
		rec.function.Name = name
		rec.setText(payload)
	}
	return rec
}

// setText sets the message, the body or the reason of a call.
func (rec *callRecord) setText(b []byte) { rec.sample.setExact(b) }

// setMessage sets the message of a client.
func (rec *callRecord) setMessage(text bool, message []byte) {
	if text {
		rec.setText(message)
	} else {
		rec.function.Binary = append([]byte{}, message...)
	}
}

// autoResponse records a message whose response needs no call.
func (rec *callRecord) autoResponse(c *Connection, message, response []byte) {
	if rec == nil {
		return
	}
	rec.setText(message)
	rec.start(c.pipeline.host.now())
	rec.end(c.attachment, &effects{actions: []Action{{Kind: ActionSend, Payload: response}}}, nil)
}

// setAnswer sets the answer to a request.
func (rec *callRecord) setAnswer(a *answer) {
	r := rec.recording
	r.mu.Lock()
	rec.function.Token = r.tokens[a.token]
	delete(r.tokens, a.token)
	r.mu.Unlock()
	rec.function.Status = a.Status
	rec.function.setContext(a.context)
	rec.setText(a.Body)
}

// end ends the record of a call with the function's decision. attachment is that of the connection before the call. The
// call was not made if err is no failure of the function; then the conversation has a hole.
func (rec *callRecord) end(attachment []byte, made *effects, err error) {
	if rec == nil {
		return
	}
	r := rec.recording
	rec.setDecision(attachment, made, err)
	r.number(rec, made)
	line := rec.line()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(rec.client, line, notCalled(err))
	if c := rec.client; c != nil {
		c.closed = c.closed || rec.sample.Hook == OnClose || rec.sample.Hook == OnConnect && err != nil
	}
	if r.complete() {
		r.end()
	}
}

// number gives the requests of a call their numbers in the recording. Their answers cannot be there yet.
func (r *Recording) number(rec *callRecord, made *effects) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if made == nil || r.over {
		return
	}
	m := r.plugin.live()
	for _, q := range made.requests {
		r.asked++
		if m != nil && m.hooks&OnResult != 0 { // otherwise no answer comes
			r.tokens[q.token] = r.asked
		}
		rec.function.Tokens = append(rec.function.Tokens, r.asked)
	}
}

// notCalled reports whether a call has failed before the function ran.
func notCalled(err error) bool {
	var failure *Failure
	return err != nil && !errors.Is(err, ErrRefused) && !errors.As(err, &failure)
}

// complete reports whether all connections that the recording may have are over, and all answers are there.
func (r *Recording) complete() bool {
	if r.begun < r.options.Connections || len(r.tokens) > 0 {
		return false
	}
	for _, c := range r.clients {
		if !c.closed {
			return false
		}
	}
	return true
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

// line returns the line of a call, without secrets. Calls of a client do not overlap.
func (rec *callRecord) line() []byte {
	s, f := &rec.sample, &rec.function
	s.Clock, f.Random = rec.at, rec.random
	secrets := &secretTexts{}
	if c := rec.client; c != nil {
		if f.Request != nil {
			f.Request, c.secrets = rec.recording.redact.request(f.Request)
		}
		secrets = c.secrets
	}
	var configured *concealer
	if m := rec.recording.plugin.live(); m != nil {
		configured = m.conceal
	}
	if configured != nil || !secrets.empty() {
		replaceInSample(s, func(text string) string { return configured.text(secrets.replace(text)) })
	}
	return append(AppendSample(nil, s), '\n')
}
