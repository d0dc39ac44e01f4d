//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// rooms is a part: clients of a function that write to the shared state, set attachments and alarms. The state's Redis
// is killed again and again, and keeps what it has confirmed.
type rooms struct {
	s                              *site
	plays                          int
	acknowledged, unknown, recalls atomic.Int64
	alarms                         alarms
}

const (
	roomCount      = 3
	writersPerRoom = 4
	writePause     = 30 * time.Millisecond
)

func (p *rooms) run(ctx context.Context) {
	p.plays++
	var writing sync.WaitGroup
	writers := make([]*roomWriter, roomCount*writersPerRoom)
	for i := range writers {
		w := &roomWriter{p: p, name: fmt.Sprint("play", p.plays, ".", i), room: i % roomCount}
		writers[i] = w
		writing.Go(func() { w.run(ctx) })
	}
	watching := p.alarms.watch(p.s)
	writing.Wait()
	p.check(writers)
	p.alarms.settle(p.s)
	watching.Close()
}

func (p *rooms) work() []count {
	return []count{
		{name: "functions: acknowledged writes", n: p.acknowledged.Load()},
		{name: "attachments read", n: p.recalls.Load()},
		{name: "alarms set", n: p.alarms.set.Load()},
		{name: "alarms fired", n: p.alarms.fired.Load()},
	}
}

// counter is the key of a room's counter in this play.
func (p *rooms) counter(room int) string { return fmt.Sprint("count", p.plays, ".", room) }

// check compares the state with the acknowledgments.
func (p *rooms) check(writers []*roomWriter) {
	t := p.s.t
	reader := &roomWriter{p: p, name: "reader"}
	defer reader.hangUp()
	for room := range roomCount {
		acknowledged, unknown := int64(0), int64(0)
		var sums []int64
		for _, w := range writers {
			if w.room == room {
				acknowledged, unknown = acknowledged+int64(len(w.sums)), unknown+w.unknown
				sums = append(sums, w.sums...)
			}
		}
		slices.Sort(sums)
		if len(slices.Compact(slices.Clone(sums))) != len(sums) {
			t.Errorf("functions: room %d: two additions were answered with the same sum", room)
		}
		var total int64
		err := testkit.Poll(testkit.Patience, nil, func() error {
			status, body, err := reader.ask(map[string]any{"do": "get", "key": p.counter(room)})
			if err == nil && status != 0 {
				err = fmt.Errorf("status %d: %s", status, body)
			}
			if err == nil {
				total, err = strconv.ParseInt(body, 10, 64)
			}
			return err
		})
		switch {
		case err != nil && acknowledged > 0:
			t.Errorf("functions: the counter of room %d: %v", room, err)
		case total < acknowledged, total > acknowledged+unknown:
			t.Errorf("functions: the counter of room %d is %d; %d additions were acknowledged, of %d it is unknown", room,
				total, acknowledged, unknown)
		}
		if err := reader.do(map[string]any{"do": "set", "key": p.counter(room), "value": "0", "ttl": 1}); err != nil {
			t.Logf("functions: clearing room %d: %v", room, err)
		}
	}
}

// roomWriter is a client of a room. It writes on one node at a time, and reconnects when its connection ends.
type roomWriter struct {
	p    *rooms
	name string
	room int

	conn     *wstest.Raw
	attached string
	requests int
	sums     []int64 // of the counter, one for each acknowledged addition
	unknown  int64
}

func (w *roomWriter) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// dial connects to a node that runs, if the writer has no connection.
func (w *roomWriter) dial() error {
	if w.conn != nil {
		return nil
	}
	nodes := w.p.s.up(w.p.s.relay, w.p.s.near)()
	url := nodes[rand.IntN(len(nodes))]
	conn, err := wstest.DialRaw(fmt.Sprintf("%s/ws/room/room_%d/", url, w.room), "")
	if err != nil {
		return err
	}
	if text, err := conn.Next(testkit.Patience); err != nil || text != "welcome" {
		conn.Close()
		return fmt.Errorf("the greeting is %q: %w", text, err)
	}
	w.conn, w.attached = conn, fmt.Sprint("room_", w.room)
	return nil
}

// ask sends a request and waits for its answer: the status and the body. Each request has a context of its own.
func (w *roomWriter) ask(request map[string]any) (status int, body string, err error) {
	if err := w.dial(); err != nil {
		return 0, "", err
	}
	w.requests++
	id := fmt.Sprint(w.name, ":", w.requests)
	request["context"] = id
	text, err := w.send(request)
	if err != nil {
		return 0, "", err
	}
	rest, ok := strings.CutPrefix(text, id+" ")
	digits, body, _ := strings.Cut(rest, " ")
	status, err = strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, "", fmt.Errorf("%.100q came as the answer to %v", text, request)
	}
	return status, body, nil
}

// send sends a request and returns the next frame. The connection is over after an error.
func (w *roomWriter) send(request map[string]any) (string, error) {
	if err := w.dial(); err != nil {
		return "", err
	}
	message, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	text := ""
	if err = w.conn.Send(string(message)); err == nil {
		text, err = w.conn.Next(testkit.Patience)
	}
	if err != nil {
		w.hangUp()
	}
	return text, err
}

// do is ask for a request that must succeed.
func (w *roomWriter) do(request map[string]any) error {
	status, body, err := w.ask(request)
	if err == nil && status != 0 {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	return err
}

// run writes until ctx ends.
func (w *roomWriter) run(ctx context.Context) {
	defer w.hangUp()
	for n := 0; ctx.Err() == nil; n++ {
		if w.dial() != nil {
			testkit.Pause(ctx.Done(), 100*time.Millisecond)
			continue
		}
		switch {
		case n%50 == 10:
			w.remember(n)
		case n%50 == 40:
			w.recall()
		case n%20 == 5:
			w.p.alarms.add(w, n)
		default:
			w.add()
		}
		testkit.Pause(ctx.Done(), writePause)
	}
}

func (w *roomWriter) add() {
	status, body, err := w.ask(map[string]any{"do": "add", "key": w.p.counter(w.room), "delta": 1})
	sum, parseErr := strconv.ParseInt(body, 10, 64)
	switch {
	case err != nil || status == -1: // the end of the connection, or no answer of Redis
		w.unknown++
		w.p.unknown.Add(1)
	case status == -5: // without effect
	case status != 0 || parseErr != nil:
		w.p.s.fault("functions: an addition was answered with %d %q", status, body)
		w.unknown++
	default:
		w.sums = append(w.sums, sum)
		w.p.acknowledged.Add(1)
	}
}

// remember sets the connection's attachment, which outlives reloads and new modules.
func (w *roomWriter) remember(n int) {
	text := fmt.Sprint("attached ", n)
	if answer, err := w.send(map[string]any{"do": "remember", "text": text}); err == nil {
		if answer != "0" {
			w.p.s.fault("functions: setting an attachment was answered with %q", answer)
		}
		w.attached = text
	}
}

func (w *roomWriter) recall() {
	want := w.attached
	answer, err := w.send(map[string]any{"do": "recall"})
	if err != nil {
		return
	}
	if answer != want {
		w.p.s.fault("functions: the attachment is %q, want %q", answer, want)
	}
	w.p.recalls.Add(1)
}
