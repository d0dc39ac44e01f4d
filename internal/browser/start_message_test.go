package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// What a newcomer sees of `make run`: one block with addresses that answer and a command that works, and no log.
func TestStartMessage(t *testing.T) {
	site := newSite(t)
	printed := new(output)
	site.stdout = printed
	site.start(t)
	command := fmt.Sprintf(`%s edgerelay publish --address %s --group jobs-status_changed --data '{"unified_job_id": 42, "status": "successful", "password": "hunter2"}'`,
		site.program, strings.TrimPrefix(site.Admin, "http://"))
	want := fmt.Sprintf(`
edgerelay is ready. Next steps:

  Open the demo   %[1]s
  Publish         %[2]s
  Console         %[1]sedgerelay/
  Documentation   make docs-serve, then http://localhost:8014/

Every client may publish here: for development only. Ctrl-C stops it.

`, site.URL, command)
	testkit.Eventually(t, "the start message", func() bool { return strings.HasSuffix(printed.String(), "stops it.\n\n") })
	got := printed.String()
	if at := strings.Index(got, "is ready"); at > 0 { // a build from a tag has its version here
		got = "\nedgerelay " + got[at:]
	}
	if got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
	if log := site.process.Log(); log != "" {
		t.Errorf("the log of a start is not empty:\n%s", log)
	}

	ctx := t.Context()
	conn, _, err := websocket.Dial(ctx, site.URL+"websocket/",
		&websocket.DialOptions{HTTPHeader: map[string][]string{"Cookie": {"csrftoken=t"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText,
		[]byte(`{"groups": {"jobs": ["status_changed"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // accept and groups_current
		read(ctx, t, conn)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	var event struct{ Status, Password string }
	if err := json.Unmarshal(read(ctx, t, conn), &event); err != nil || event.Status != "successful" ||
		event.Password != "********" {
		t.Errorf("got %+v, %v", event, err)
	}
}

func read(ctx context.Context, t *testing.T, conn *websocket.Conn) []byte {
	t.Helper()
	_, frame, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}
