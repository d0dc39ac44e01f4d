package backplane

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestQueueDropsTheOldest(t *testing.T) {
	one := &event{group: "g", text: []byte("0000")}
	q := newQueue(10 * one.cost())
	var dropped, firsts int
	for i := range 25 {
		n, first := q.push(&event{group: "g", text: fmt.Appendf(nil, "%04d", i)})
		dropped += n
		if first {
			firsts++
		}
	}
	if dropped != 15 || firsts != 1 {
		t.Errorf("%d dropped, %d series", dropped, firsts)
	}
	q.pushControl([]byte("control"))
	control, events, recovered, _ := q.next(nil, 3*one.cost())
	if len(control) != 1 || len(events) != 3 || recovered != 0 || string(events[0].text) != "0015" {
		t.Errorf("%q, %d events from %s, recovered %d", control, len(events), events[0].text, recovered)
	}
	_, events, recovered, _ = q.next(nil, 1<<20)
	if len(events) != 7 || recovered != 15 || string(events[6].text) != "0024" {
		t.Errorf("%d events, recovered %d", len(events), recovered)
	}
	if n, bytes, since := q.load(); n != 0 || bytes != 0 || !since.IsZero() {
		t.Errorf("%d events of %d bytes are left", n, bytes)
	}
	// An event that alone is too large is still carried.
	if n, _ := q.push(&event{group: "g", text: make([]byte, 20*one.cost())}); n != 0 {
		t.Error("dropped")
	}
}

func TestQueueHeldAndMuted(t *testing.T) {
	q := newQueue(1 << 20)
	q.setFlow(flowHeld)
	q.push(&event{group: "g", text: []byte("1")})
	q.pushControl([]byte("probe"))
	if control, events, _, _ := q.next(nil, 1<<20); len(control) != 1 || len(events) != 0 {
		t.Errorf("%q, %d events", control, len(events))
	}
	q.setFlow(flowOpen)
	<-q.signal
	if _, events, _, _ := q.next(nil, 1<<20); len(events) != 1 {
		t.Errorf("%d events after release", len(events))
	}
	q.setFlow(flowClosed)
	q.push(&event{group: "g", text: []byte("2")})
	if n, _, _ := q.load(); n != 0 {
		t.Errorf("%d events in a muted queue", n)
	}
}

func TestMetricsKey(t *testing.T) {
	for text, want := range map[string]string{
		`{"instance": "a", "metrics_namespace": "dispatcher", "metrics": "x"}`: "awx_metrics-dispatcher_instance_a",
		`{"instance": "a", "metrics": "x"}`:                                    "awx_metrics_instance_a",
		`{"instance": "a b", "metrics": "x"}`:                                  "",
		`{"instance": "a", "metrics_namespace": "\u0000", "metrics": "x"}`:     "",
		`{"instance": "` + strings.Repeat("a", 256) + `", "metrics": "x"}`:     "",
		`{"instance": "a", "metrics": "` + strings.Repeat("x", 1<<20+1) + `"}`: "",
		`{"metrics": "x"}`: "", `[]`: "", `{"instance": 3}`: "",
	} {
		key, _, ok := metricsKey([]byte(text))
		if key != want || ok != (want != "") {
			t.Errorf("%s: %q %v", text, key, ok)
		}
	}
}

func TestMetricsKeysAreBounded(t *testing.T) {
	keys, now := metricsKeys{}, time.Now()
	for i := range maxMetricsKeys {
		if !keys.reserve(strconv.Itoa(i), now) {
			t.Fatalf("key %d is refused", i)
		}
	}
	if keys.reserve("one more", now) || !keys.reserve("1", now.Add(time.Minute)) {
		t.Error("a new key is taken, or a known one is not")
	}
	if !keys.reserve("one more", now.Add(metricsLifetime+time.Second)) || len(keys) != 2 {
		t.Errorf("%d keys after the lifetime of the others, want 2", len(keys))
	}
}
