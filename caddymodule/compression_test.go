package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// compressionOf returns the settings that lines of the global option give; nil is off.
func compressionOf(t *testing.T, lines string) (*deflate.Settings, error) {
	t.Helper()
	config, err := adapt(global("auth none\n" + lines))
	if err != nil {
		return nil, err
	}
	var c struct{ Apps struct{ Edgerelay App } }
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	return c.Apps.Edgerelay.Compression.settings()
}

func TestCompressionSettings(t *testing.T) {
	const adHoc, inventory, project = "ad_hoc_command_events-*", "inventory_update_events-*", "project_update_events-*"
	for lines, want := range map[string]*deflate.Settings{
		"":                              {MinSize: 512, Level: 1, Exclude: []string{adHoc, inventory, project}},
		"compression on":                {MinSize: 512, Level: 1, Exclude: []string{adHoc, inventory, project}},
		"compression off":               nil,
		"compression off {\nlevel 5\n}": nil,
		"compression {\nmin_size 1KiB\nlevel 5\nexclude job_events-* chat-*\ninclude " + project + "\n}": {
			MinSize: 1024, Level: 5, Exclude: []string{adHoc, inventory, "job_events-*", "chat-*"},
		},
	} {
		if got, err := compressionOf(t, lines); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", lines, got, err, want)
		}
	}
}

func TestCompressionMistakes(t *testing.T) {
	for lines, want := range map[string]string{
		"compression maybe":                        `invalid value "maybe"`,
		"compression off on":                       "wrong argument count",
		"compression {\nlevel 10\n}":               "level: 10 is out of range",
		"compression {\nlevel 0\n}":                "level",
		"compression {\nmin_size 0\n}":             "min_size",
		"compression {\nexclude a:b\n}":            `no group has the name "a:b"`,
		"compression {\ninclude job_events-*\n}":   "not excluded by default",
		"compression {\nratio 3\n}":                "it has min_size, level, exclude and include",
		"compression off\ncompression {\nlevel 5}": "given twice",
	} {
		if _, err := compressionOf(t, lines); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
}

// A browser's websocket gets events compressed, one after the other; groups that are excluded, and a reload with
// compression off, leave them plain. Status and metrics tell.
func TestCompressionOnASite(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/websocket/", &websocket.DialOptions{
		HTTPHeader: csrf, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	read := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, text, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const groups = `{"groups": {"job_events": ["1"], "ad_hoc_command_events": ["1"]}, "xrftoken": "t"}`
	read()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(groups)); err != nil {
		t.Fatal(err)
	}
	read()
	status := func() (status admin.Status) {
		_, body := s.get("http://" + s.admin + "/edgerelay/status")
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		return status
	}
	publish := func(group string, n int) {
		t.Helper()
		data := fmt.Sprintf(`{"stdout": %q, "counter": %d}`, strings.Repeat("changed: [host] ", 100), n)
		if code, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": %q, "data": %s}`, group, data)); code != 200 {
			t.Fatal(code, body)
		}
		if got := read(); got != data {
			t.Errorf("got %.50q, want %.50q", got, data)
		}
	}
	before := status().Compression // the node outlives the tests before
	for n := range 3 {
		publish("job_events-1", n)
		publish("ad_hoc_command_events-1", n)
	}
	now := status().Compression
	if chained, alone := now.Deliveries["chained"]-before.Deliveries["chained"],
		now.Deliveries["alone"]-before.Deliveries["alone"]; chained != 2 || alone != 1 || !now.Enabled || now.Clients != 1 {
		t.Errorf("%d deliveries chained, %d alone: %+v", chained, alone, now)
	}
	if saved := now.Before - before.Before; now.After-before.After > saved/5 || saved < 4800 {
		t.Errorf("%d of %d bytes", now.After-before.After, saved)
	}
	if got := s.scrape().value("edgerelay_compression_clients"); got != 1 {
		t.Errorf("the metric says %v clients", got)
	}
	s.mustLoad("auth none\ncompression off", "edgerelay")
	publish("job_events-1", 4)
	if after := status().Compression; after.Before != now.Before || after.Enabled || after.Memory != 0 {
		t.Errorf("an event was compressed: %+v", after)
	}
}

// Clients of routes get the frames of their events compressed, with and without a backend, and whether or not the
// subscription begins before the WebSocket.
func TestCompressionOnRoutes(t *testing.T) {
	b := startBackendSite(t)
	s := newSite(t)
	s.mustLoad("auth none\nhistory group-*", `edgerelay {
	route /backend/ {
		messages backend `+b.URL+` {
			grip {
				key s3cret
			}
		}
	}
	route /group/{name}/ {
		groups group-{name}
		on x.y text text
	}
	route /first/{name}/ {
		groups group-{name}
		on x.y text text
		first history 5
	}
}`)
	for path, publish := range map[string]func(text string){
		"/backend/": func(text string) { b.publish(s, text) },
		"/group/a/": func(text string) { s.emit("group-a", "x.y", fmt.Sprintf(`{"text": %q}`, text)) },
		"/first/b/": func(text string) { s.emit("group-b", "x.y", fmt.Sprintf(`{"text": %q}`, text)) },
	} {
		c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+path, &websocket.DialOptions{
			CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"chat"},
		})
		if err != nil {
			t.Fatal(path, err)
		}
		defer func() { _ = c.CloseNow() }()
		if path == "/backend/" { // the subscription that the backend asks for comes after the handshake
			if _, frame, err := c.Read(t.Context()); err != nil || string(frame) != "welcome" {
				t.Fatalf("%s: got %q, %v; want welcome", path, frame, err)
			}
		}
		chained := func() float64 { return s.scrape().value("edgerelay_compression_deliveries_total", "form=chained") }
		before := chained()
		for n := range 3 {
			text := strings.Repeat("changed: [host] ", 100) + strconv.Itoa(n)
			publish(text)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, frame, err := c.Read(ctx)
			cancel()
			if err != nil || string(frame) != text {
				t.Fatalf("%s: got %.50q, %v; want %.50q", path, frame, err, text)
			}
		}
		testkit.Eventually(t, path+": two events were chained to the one before", func() bool { return chained()-before == 2 })
	}
}
