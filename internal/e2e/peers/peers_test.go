package peers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What one channels_redis sends, another receives, before and after a Redis that
// was killed comes back on its port.
func TestLayerAndRedis(t *testing.T) {
	redis := StartRedis(t)
	emitter := StartEmitter(t, redis.URL)
	receive := func(receiver *Layer, text string) {
		t.Helper()
		emitter.Send(Event{Group: "jobs-summary", Text: text})
		var got struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(receiver.Receive(5*time.Second), &got); err != nil {
			t.Fatal(err)
		}
		if got.Text != text {
			t.Fatalf("received %q, want %q", got.Text, text)
		}
	}

	first := StartEmitter(t, redis.URL)
	first.Join("jobs-summary")
	receive(first, `{"héllo": "\u001b[0m"}`)
	if n := len(first.Members(redis.URL, "jobs-summary")); n != 1 {
		t.Fatalf("%d members in the group, want 1", n)
	}
	if n := first.WipeGroups(redis.URL); n != 1 {
		t.Fatalf("wiped %d keys, want the group's alone", n)
	}

	redis.Kill()
	redis.Restart()
	second := StartEmitter(t, redis.URL)
	second.Join("jobs-summary")
	receive(second, "after the restart")
	if n := redis.KillClients(); n == 0 {
		t.Fatal("CLIENT KILL found no connection")
	}
}

func TestPaceGoesOnWhileRedisIsAway(t *testing.T) {
	redis := StartRedis(t)
	emitter := StartEmitter(t, redis.URL)
	wait := emitter.Pace("jobs-summary", 5, 100, 10*time.Millisecond)
	redis.Kill()
	redis.Restart()
	paced := wait()
	if len(paced.Times) != 100 || len(paced.Failed) == 0 || paced.Failed[104] {
		t.Fatalf("%d sends, failed: %v; want 100, failures for a while and the last a success", len(paced.Times),
			paced.Failed)
	}
}

func TestControllerAPI(t *testing.T) {
	redis := StartRedis(t)
	c := StartController(t, redis.URL)
	alice, gone := c.Login(Alice), c.Login(Alice)
	c.Logout(gone)
	basic := http.Header{"Authorization": {"Basic Ym9iOmJvYi1wYXNzd29yZA=="}} // bob:bob-password
	for _, tc := range []struct {
		path   string
		header http.Header
		want   int
	}{
		{"/api/v2/me/", nil, 401},
		{"/api/v2/me/", alice.Header(), 200},
		{"/api/v2/me/", gone.Header(), 401},
		{"/api/v2/me/", basic, 200},
		{"/api/v2/me/", http.Header{"Authorization": {"Basic eDp5"}}, 401},
		{"/api/v2/jobs/42/", nil, 401},
		{"/api/v2/jobs/42/", alice.Header(), 200},
		{"/api/v2/jobs/42/", basic, 403},
		{"/api/v2/jobs/43/", alice.Header(), 403},
		{"/api/v2/jobs/999/", alice.Header(), 404},
		{"/api/v2/workflow_jobs/7/", alice.Header(), 200},
		{"/api/v2/ad_hoc_commands/6/", alice.Header(), 403},
		{"/api/v2/project_updates/3/", alice.Header(), 200},
		{"/api/v2/inventory_updates/4/", alice.Header(), 403},
		{"/api/v2/system_jobs/3/", alice.Header(), 200},
	} {
		req, err := http.NewRequest(http.MethodGet, c.URL+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.header != nil {
			req.Header = tc.header
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("%s with %v: %d, want %d", tc.path, tc.header, resp.StatusCode, tc.want)
		}
	}
	if got, want := fmt.Sprint(c.Hits()), "map[ad_hoc_commands:1 inventory_updates:1 jobs:5 me:5 project_updates:1 system_jobs:1 workflow_jobs:1]"; got != want {
		t.Errorf("hits %s, want %s", got, want)
	}
	c.Kill()
	c.Restart()
	req, _ := http.NewRequest(http.MethodGet, c.URL+"/api/v2/me/", nil)
	req.Header = alice.Header()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("alice after a restart: %s", resp.Status)
	}
}
