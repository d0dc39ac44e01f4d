package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/scaffold"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// TestPluginDev develops a function: a change is built and loaded, and the clients stay; a fault in the source, in a
// sample or in a unit test is shown, and the module before keeps running; the end of the command ends the relay.
func TestPluginDev(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my-room")
	if err := scaffold.New(scaffold.Function, "c", dir, ""); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(peers.Binary(t), "edgerelay", "plugin", "dev", "--no-open", dir)
	dev := process.Start(t, "plugin dev", cmd)
	shown := func(text string, times int) {
		t.Helper()
		testkit.Eventually(t, text, func() bool { return strings.Count(dev.Log(), text) >= times })
	}
	shown("✓ loaded", 1)
	_, rest, _ := strings.Cut(dev.Log(), "http://")
	address := strings.Fields(rest)[0]

	client, _, err := wstest.Dial(t, "ws://"+address+"/ws/room/7/", http.Header{})
	if err != nil {
		t.Fatalf("%v\n%s", err, dev.Log())
	}
	next := func(want string) {
		t.Helper()
		if got, err := client.Next(testkit.Scale(20 * time.Second)); err != nil || got != want {
			t.Fatalf("%q, %v; want %q\n%s", got, err, want, dev.Log())
		}
	}
	next("visit 1 of room-7")

	source := filepath.Join(dir, "plugin.c")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(text) + "\nno C\n")
	shown("the module before keeps running", 1)
	shown("✗ build", 1)
	if err := client.Send("still here"); err != nil {
		t.Fatal(err)
	}
	next("still here")

	write(strings.Replace(string(text), "ev_join(room)", "ev_reject_because(room)", 1))
	shown("✗ samples", 1)

	tests := filepath.Join(dir, "plugin_test.c")
	test, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	writeTests := func(text string) {
		t.Helper()
		if err := os.WriteFile(tests, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeTests(strings.Replace(string(test), "visit 2", "visit 3", 1))
	write(string(text))
	shown("✗ tests: sh test.sh", 1)
	writeTests(string(test))
	shown("✓ loaded", 2)

	write(strings.Replace(string(text), "EV_ON_MESSAGE(m) {", `EV_ON_MESSAGE(m) { ev_log(EV_INFO, "a message");`, 1))
	shown("✓ loaded", 3)
	if err := client.Send("same client"); err != nil {
		t.Fatal(err)
	}
	next("same client")
	shown("a message", 1)

	dev.Signal(os.Interrupt)
	select {
	case <-dev.Done():
	case <-time.After(testkit.Scale(20 * time.Second)):
		t.Fatalf("the command does not end\n%s", dev.Log())
	}
	if _, err := http.Get("http://" + address + "/"); err == nil {
		t.Error("the relay is still there")
	}
}
