package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// Python is the interpreter of the Debian packages. PATH may begin with another python3.
const Python = "/usr/bin/python3"

// The classes of channels_redis that StartLayer can run.
const (
	CoreLayer   = "channels_redis.core.RedisChannelLayer"
	PubSubLayer = "channels_redis.pubsub.RedisPubSubChannelLayer"
	// The file testdata/python/later.py adds the settings of later versions to the installed one.
	LaterCoreLayer   = "later.CoreLayer"
	LaterPubSubLayer = "later.PubSubLayer"
)

// Layer is a channel layer of the real channels_redis in a Python process. It emits to groups as AWX does and receives
// from groups. Several goroutines may call its methods; commands run one after another.
type Layer struct {
	*process.Process

	t     testing.TB
	stdin io.WriteCloser

	mu       sync.Mutex // guards the fields below and writes to stdin
	lastID   int
	waiting  map[int]chan layerReply
	received chan json.RawMessage
}

// Event is a text for a group.
type Event struct{ Group, Text string }

// MarshalJSON encodes the event for the Python side.
func (e Event) MarshalJSON() ([]byte, error) { return json.Marshal([2]string{e.Group, e.Text}) }

// Paced is the result of a paced series of events.
type Paced struct {
	// Times holds the time at which each send returned, even in error.
	Times []time.Time
	// Failed holds the numbers of the events whose send raised.
	Failed map[int]bool
}

type layerReply struct {
	ID       int             `json:"id"`
	OK       bool            `json:"ok"`
	Error    string          `json:"error"`
	Received json.RawMessage `json:"received"`
	Times    []float64       `json:"times"`
	Failed   []int           `json:"failed"`
	Deleted  int             `json:"deleted"`
	Members  []string        `json:"members"`
	Channel  string          `json:"channel"`
}

// StartLayer starts a channel layer of the given class with the given CONFIG,
// for example {"hosts": []string{redis.URL}, "capacity": 10000}.
func StartLayer(t testing.TB, class string, config map[string]any) *Layer {
	t.Helper()
	return StartLayerIn(t, Python, class, config)
}

// StartLayerIn is StartLayer with another interpreter, which has another version of channels_redis.
func StartLayerIn(t testing.TB, interpreter, class string, config map[string]any) *Layer {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(Root(t), "internal", "e2e", "testdata", "python", "layer.py")
	cmd := exec.Command(process.Program(t, interpreter), "-u", "-B", script, class, string(text))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, lines := io.Pipe()
	cmd.Stdout = lines
	l := &Layer{
		t: t, stdin: stdin,
		waiting:  map[int]chan layerReply{},
		received: make(chan json.RawMessage, 1<<16),
	}
	l.Process = process.Start(t, "channels_redis", cmd)
	go func() {
		<-l.Done()
		lines.Close()
	}()
	go l.read(stdout)
	l.do(20*time.Second, map[string]any{"op": "ping"})
	return l
}

// StartEmitter starts a layer with the settings of AWX on one Redis.
func StartEmitter(t testing.TB, redisURL string) *Layer {
	t.Helper()
	return StartLayer(t, CoreLayer, map[string]any{
		"hosts": []string{redisURL}, "capacity": 10000, "group_expiry": 157784760,
	})
}

// Send emits events one after another, as AWX does. It returns when Redis has the last event.
func (l *Layer) Send(events ...Event) {
	l.t.Helper()
	l.do(time.Minute, map[string]any{"op": "send", "events": events})
}

// SendMessage sends any message to a group.
func (l *Layer) SendMessage(group string, message map[string]any) {
	l.t.Helper()
	l.do(10*time.Second, map[string]any{"op": "message", "group": group, "message": message})
}

// SendLiteral sends a message to a group. The message is a Python expression, such as {"type": "x", "data": b"\x00"};
// inf and nan are floats.
func (l *Layer) SendLiteral(group, message string) {
	l.t.Helper()
	l.do(10*time.Second, map[string]any{"op": "literal", "group": group, "message": message})
}

// Pace begins to emit {"n": start}, {"n": start+1}, ... to a group and continues after errors, until count events are
// sent or [Layer.StopPacing] is called. The returned function waits for the end.
func (l *Layer) Pace(group string, start, count int, interval time.Duration) func() Paced {
	l.t.Helper()
	return l.pace(count, interval, map[string]any{"group": group, "start": start})
}

// PaceStored is Pace that writes the number of each event to a list of Redis before it emits the event, as AWX writes
// to its database. The API of [OldSite] reads the list.
func (l *Layer) PaceStored(group, redisURL string, start, count int, interval time.Duration) func() Paced {
	l.t.Helper()
	return l.pace(count, interval, map[string]any{"group": group, "start": start, "store": redisURL})
}

// PaceMessages is Pace for messages of any type. Each has the members n, which is its number, and text, which is
// "m<n>", besides those of message.
func (l *Layer) PaceMessages(group string, message map[string]any, start, count int, interval time.Duration,
) func() Paced {
	l.t.Helper()
	return l.pace(count, interval, map[string]any{"group": group, "start": start, "message": message})
}

func (l *Layer) pace(count int, interval time.Duration, command map[string]any) func() Paced {
	l.t.Helper()
	command["op"], command["count"], command["interval"] = "pace", count, interval.Seconds()
	reply := l.begin(command)
	return func() Paced {
		l.t.Helper()
		r := l.await(testkit.Scale(time.Duration(count)*interval+30*time.Second), "pace", reply)
		p := Paced{Failed: map[int]bool{}}
		for _, seconds := range r.Times {
			p.Times = append(p.Times, time.UnixMicro(int64(seconds*1e6)))
		}
		for _, n := range r.Failed {
			p.Failed[n] = true
		}
		return p
	}
}

// StopPacing ends the series of events that Pace began.
func (l *Layer) StopPacing() {
	l.t.Helper()
	l.do(10*time.Second, map[string]any{"op": "stop"})
}

// Join adds the channel of the layer to a group; [Layer.Receive] returns the messages of joined groups.
func (l *Layer) Join(group string) {
	l.t.Helper()
	l.do(10*time.Second, map[string]any{"op": "join", "group": group})
}

// Receive returns the next message of the joined groups as JSON, with bytes as {"base64": "..."}.
func (l *Layer) Receive(within time.Duration) json.RawMessage {
	l.t.Helper()
	select {
	case m, ok := <-l.received:
		if ok {
			return m
		}
		l.t.Fatal("the Python process ended while a message was awaited")
	case <-time.After(within):
		l.t.Fatalf("channels_redis received no message within %v", within)
	}
	return nil
}

// WipeGroups deletes every key asgi:* one by one, as AWX does at its start, and returns the number of keys.
func (l *Layer) WipeGroups(redisURL string) int {
	l.t.Helper()
	return l.do(10*time.Second, map[string]any{"op": "wipe", "url": redisURL, "pattern": "asgi:*"}).Deleted
}

// Members returns the channel names in a group.
func (l *Layer) Members(redisURL, group string) []string {
	l.t.Helper()
	return l.do(10*time.Second, map[string]any{"op": "members", "url": redisURL, "group": group}).Members
}

func (l *Layer) do(within time.Duration, command map[string]any) layerReply {
	l.t.Helper()
	return l.await(within, fmt.Sprint(command["op"]), l.begin(command))
}

func (l *Layer) begin(command map[string]any) <-chan layerReply {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastID++
	command["id"] = l.lastID
	line, err := json.Marshal(command)
	if err != nil {
		l.t.Fatal(err)
	}
	reply := make(chan layerReply, 1)
	l.waiting[l.lastID] = reply
	if _, err := l.stdin.Write(append(line, '\n')); err != nil {
		l.t.Fatalf("the Python process takes no more commands (%v); mend a missing package with: %s\n%s", err,
			process.Install, l.Log())
	}
	return reply
}

func (l *Layer) await(within time.Duration, op string, reply <-chan layerReply) layerReply {
	l.t.Helper()
	select {
	case r := <-reply:
		if r.Error != "" {
			l.t.Fatalf("channels_redis: %s: %s", op, r.Error)
		}
		return r
	case <-l.Done():
		l.t.Fatalf("the Python process ended during %q; mend a missing package with: %s\n%s", op, process.Install,
			l.Log())
	case <-time.After(within):
		l.t.Fatalf("channels_redis: %s: no answer within %v", op, within)
	}
	return layerReply{}
}

func (l *Layer) read(stdout io.Reader) {
	defer close(l.received)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var r layerReply
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			l.Logf("not an answer: %s", strings.TrimSpace(line))
			continue
		}
		if r.Received != nil {
			l.received <- r.Received
			continue
		}
		l.mu.Lock()
		reply := l.waiting[r.ID]
		delete(l.waiting, r.ID)
		l.mu.Unlock()
		if reply != nil {
			reply <- r
		}
	}
}
