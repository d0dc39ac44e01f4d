package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// The examples of clients in Python and Go, with a login of the controller: they resume after a lost connection,
// know after the death of the relay whether they missed an event, and tell a gap where there is no history.
func TestClientExamples(t *testing.T) {
	t.Parallel()
	examples := filepath.Join(peers.Root(t), "examples", "clients")
	program := filepath.Join(t.TempDir(), "client")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(examples, "go")
	guests.Run(t, build)
	for name, command := range map[string][]string{
		"python": {process.Program(t, "/usr/bin/python3"), "-u", filepath.Join(examples, "python", "client.py")},
		"go":     {program},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testClientExample(t, command)
		})
	}
}

func testClientExample(t *testing.T, command []string) {
	t.Helper()
	redis := peers.StartRedis(t)
	controller := peers.StartController(t, redis.URL)
	login := controller.Login(peers.Alice)
	emitter := peers.StartEmitter(t, redis.URL)
	config := `{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis ` + redis.URL + `
		auth awx ` + controller.URL + `
		history job_events-* {
		}
	}
}
{$SITE} {
	edgerelay
}
`
	publish := func(group string, n int) {
		emitter.Send(peers.Event{Group: group, Text: fmt.Sprintf(`{"n": %d}`, n)})
	}
	relay := peers.StartRelay(t, config)
	way := testkit.StartProxy(t, strings.TrimPrefix(relay.URL, "http://"))
	client := startClient(t, command, login, "ws://"+way.Addr+"/websocket/", "job_events-42", "jobs-summary")
	client.wait(t, "subscribed job_events-42")
	client.wait(t, "subscribed jobs-summary")
	publish("job_events-42", 1)
	publish("jobs-summary", 0)
	client.wait(t, `event job_events-42 {"n": 1}`)
	client.wait(t, `event jobs-summary {"n": 0}`)

	// The client cannot come back before everything has been published.
	way.Stall()
	way.Cut()
	for n := 2; n <= 20; n++ {
		publish("job_events-42", n)
	}
	way.Resume()
	client.wait(t, "recovered job_events-42 19")
	client.wait(t, "gap jobs-summary no_history")
	publish("job_events-42", 21)
	client.wait(t, `event job_events-42 {"n": 21}`)

	relay.Kill()
	publish("job_events-42", 22)
	relay.Restart(config)
	testkit.EventuallyWithin(t, 30*time.Second, "the client knows what it missed", func() error {
		if client.has("gap job_events-42 gap") == nil { // the truth about an event that the dead node had in memory
			return nil
		}
		return client.has("recovered job_events-42 1")
	})
	publish("job_events-42", 23)
	client.wait(t, `event job_events-42 {"n": 23}`)
	var want []string
	for n := 1; n <= 23; n++ {
		if event := fmt.Sprintf(`{"n": %d}`, n); n != 22 || client.has("gap job_events-42 gap") != nil ||
			client.has("event job_events-42 "+event) == nil {
			want = append(want, event)
		}
	}
	if got := client.events(); got != strings.Join(want, " ") {
		t.Errorf("the events are %s", got)
	}
}

// exampleClient is a running example, and what it has printed.
type exampleClient struct {
	mu    sync.Mutex
	lines []string
}

func startClient(t *testing.T, command []string, login peers.Login, args ...string) *exampleClient {
	t.Helper()
	out, in := io.Pipe()
	cmd := exec.Command(command[0], append(command[1:], args...)...)
	cmd.Env = append(os.Environ(), "COOKIE="+login.Header().Get("Cookie"))
	cmd.Stdout = in
	c := &exampleClient{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = in.Close()
		reading.Wait()
	})
	process.Start(t, "the client", cmd)
	return c
}

// has returns nil if the client has printed a line.
func (c *exampleClient) has(line string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lines {
		if strings.TrimSpace(l) == line {
			return nil
		}
	}
	return fmt.Errorf("the client has printed:\n%s", strings.Join(c.lines, "\n"))
}

func (c *exampleClient) wait(t *testing.T, line string) {
	t.Helper()
	testkit.EventuallyWithin(t, 30*time.Second, line, func() error { return c.has(line) })
}

// events returns the events of job_events-42, in order.
func (c *exampleClient) events() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var events []string
	for _, l := range c.lines {
		if event, ok := strings.CutPrefix(l, "event job_events-42 "); ok {
			events = append(events, event)
		}
	}
	return strings.Join(events, " ")
}
