package caddymodule

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// otlp receives what the exporter in Caddy sends.
type otlp struct {
	mu    sync.Mutex
	spans []*tracepb.Span
}

// newOTLP starts a receiver, and points the exporter at it.
func newOTLP(t *testing.T) *otlp {
	o := &otlp{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				o.spans = append(o.spans, scope.GetSpans()...)
			}
		}
		answer, _ := proto.Marshal(&collectpb.ExportTraceServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = io.Copy(w, bytes.NewReader(answer))
	}))
	t.Cleanup(s.Close)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
		"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_TRACES_EXPORTER": "otlp",
	} {
		t.Setenv(name, value)
	}
	return o
}

// named returns the spans of a name that have arrived.
func (o *otlp) named(name string) (found []*tracepb.Span) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.spans {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

// wait returns the spans of a name once there are n.
func (o *otlp) wait(t *testing.T, name string, n int) (found []*tracepb.Span) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprint(n, " spans ", name), func() error {
		if found = o.named(name); len(found) < n {
			return fmt.Errorf("there are %d", len(found))
		}
		return nil
	})
	return found
}

func attr(s *tracepb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if v := a.GetValue().GetStringValue(); v != "" {
				return v
			}
			return fmt.Sprint(a.GetValue().GetIntValue())
		}
	}
	return ""
}

func childOf(t *testing.T, child, parent *tracepb.Span) {
	t.Helper()
	if !bytes.Equal(child.GetTraceId(), parent.GetTraceId()) || !bytes.Equal(child.GetParentSpanId(), parent.GetSpanId()) {
		t.Errorf("%s is not a child of %s", child.GetName(), parent.GetName())
	}
}

// A traced handshake, what it asks of AWX's API, and later subscriptions and events are spans in one trace of the
// browser's, as Caddy's exporter sends them.
func TestTracing(t *testing.T) {
	received := newOTLP(t)
	api := newAWXAPI(t)
	s := newSite(t)
	s.mustLoad("auth awx "+api.URL+"\ntrace_events 2", "tracing {\nspan site\n}\nedgerelay")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	header := login.Clone()
	header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	c := s.dial("/websocket/", header)
	next(t, c, `{"accept": true, "user": 7}`)

	site := received.wait(t, "site", 1)[0]
	upgrade := received.wait(t, "edgerelay.upgrade", 1)[0] // although the websocket stands
	authenticate := received.wait(t, "edgerelay.authenticate", 1)[0]
	question := received.wait(t, "HTTP GET", 1)[0]
	childOf(t, upgrade, site)
	childOf(t, authenticate, upgrade)
	childOf(t, question, authenticate)
	if got := hex.EncodeToString(upgrade.GetTraceId()); got != trace {
		t.Errorf("the trace is %s, the browser's was %s", got, trace)
	}
	if attr(upgrade, "edgerelay.user") != "alice" || attr(upgrade, "enduser.id") != "7" || attr(upgrade, "edgerelay.user_kind") != "user" {
		t.Errorf("the handshake's attributes: %v", upgrade.GetAttributes())
	}
	if got, want := api.asked()[0].Header.Get("Traceparent"), "00-"+trace+"-"+hex.EncodeToString(question.GetSpanId())+"-01"; got != want {
		t.Errorf("AWX's API was sent traceparent %q, want %q", got, want)
	}

	if err := c.Send(`{"groups": {"job_events": [42, 13]}, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
	next(t, c, `{"error": "access denied to channel job_events for resource id 13"}`)
	authorize := received.wait(t, "edgerelay.authorize", 1)[0]
	childOf(t, authorize, upgrade)
	if attr(authorize, "edgerelay.groups") != "2" || attr(authorize, "edgerelay.denied") != "1" {
		t.Errorf("the subscription's attributes: %v", authorize.GetAttributes())
	}
	for _, q := range received.wait(t, "HTTP GET", 3)[1:] {
		childOf(t, q, authorize)
	}

	before := time.Now()
	for i := range 4 {
		if status, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": "job_events-42", "data": %d}`, i)); status != 200 {
			t.Fatal(status, body)
		}
	}
	if status, body := s.post("/edgerelay/publish", `{"group": "nobody", "data": 1}`); status != 200 {
		t.Fatal(status, body)
	}
	events := received.wait(t, "edgerelay.event", 2)
	for _, e := range events {
		if attr(e, "messaging.destination.name") != "job_events-42" || attr(e, "edgerelay.clients") != "1" || attr(e, "edgerelay.outcome") != "delivered" || len(e.GetParentSpanId()) != 0 {
			t.Errorf("an event's attributes: %v", e.GetAttributes())
		}
		begin, end := time.Unix(0, int64(e.GetStartTimeUnixNano())), time.Unix(0, int64(e.GetEndTimeUnixNano()))
		if begin.Before(before.Truncate(time.Microsecond)) || end.Before(begin) || end.After(time.Now()) || len(e.GetEvents()) != 2 {
			t.Errorf("an event from %v to %v, with %v", begin, end, e.GetEvents())
		}
	}

	// Refusals say why, and nothing of it is there without the directive.
	if resp, _ := s.ask("/websocket/", "Origin: https://evil.example"); resp.StatusCode != 403 {
		t.Fatal(resp.Status)
	}
	if got := attr(received.wait(t, "edgerelay.upgrade", 2)[1], "edgerelay.rejected"); got != "origin" {
		t.Errorf("the refusal of a page is %q", got)
	}
	s.mustLoad("auth awx "+api.URL, "edgerelay")
	asked := len(api.asked())
	next(t, s.dial("/websocket/", header), `{"accept": true, "user": 7}`)
	for i := range 4 {
		if status, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": "job_events-42", "data": %d}`, i)); status != 200 {
			t.Fatal(status, body)
		}
	}
	if last := api.asked()[asked]; last.Header.Get("Traceparent") != "" {
		t.Errorf("without tracing AWX's API was sent traceparent %q", last.Header.Get("Traceparent"))
	}
	if n, m := len(received.named("edgerelay.upgrade")), len(received.named("edgerelay.event")); n != 2 || m != 2 {
		t.Errorf("%d handshakes and %d events traced, want 2 and 2", n, m)
	}
}

// The settings of what can be seen, in both forms.
func TestObservationCaddyfile(t *testing.T) {
	config, err := adapt("{\nedgerelay {\nauth none\ntrace_events 1000\nawx_metrics on\n}\n}\n")
	if err != nil || !strings.Contains(string(config), `"trace_events":1000`) || !strings.Contains(string(config), `"awx_metrics":true`) {
		t.Errorf("%s, %v", config, err)
	}
	config, err = adapt("{\nedgerelay {\nauth none\ntrace_events off\nawx_metrics off\n}\n}\n")
	if err != nil || strings.Contains(string(config), "trace_events") || strings.Contains(string(config), "awx_metrics") {
		t.Errorf("%s, %v", config, err)
	}
	for line, want := range map[string]string{
		"trace_events": "one value", "trace_events 0": "above 0, or off", "trace_events -1": "above 0, or off",
		"trace_events x": "above 0, or off", "trace_events 1 2": "one value", "awx_metrics": "one value", "awx_metrics yes": "on or off",
	} {
		if _, err := adapt("{\nedgerelay {\nauth none\n" + line + "\n}\n}\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", line, err, want)
		}
	}
}
