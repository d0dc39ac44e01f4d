package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// docCommands returns the commands in the code blocks of a section of a page in docs, without the prompt.
func docCommands(t testing.TB, page, heading string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(peers.Root(t), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "$ caddy "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// chatSite is a relay with the example chat, whose function sees the cookie.
func chatSite(module string) string {
	site := strings.Replace(memorySite, "auth none\n",
		"auth none\n"+plugin("chat", module, "groups chat_*", "grant clock")+"\n", 1)
	return strings.Replace(site, "\tedgerelay\n}",
		"\tedgerelay {\nroute /ws/chat/{room}/ {\nfunction chat {\nheaders Cookie\n}\non chat.message json message\n}\n}\n}", 1)
}

// converse lets two clients talk to each other in a room.
func converse(t testing.TB, r *peers.Relay) {
	t.Helper()
	room := strings.Replace(r.URL, "http", "ws", 1) + "/ws/chat/lobby/?token=secret-in-the-query"
	var clients []*wstest.Client
	for i := range 2 {
		c, _, err := wstest.Dial(t, room, http.Header{"Cookie": {fmt.Sprintf("sessionid=secret-session-%d", i)}})
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	for i, c := range clients {
		for n := range 3 {
			text := fmt.Sprintf(`{"message": "%d from %d"}`, n, i)
			if err := c.Send(text); err != nil {
				t.Fatal(err)
			}
			for _, receiver := range clients {
				if got, err := receiver.Next(testkit.Scale(20 * time.Second)); err != nil || got != text {
					t.Fatalf("%q, %v; want %q", got, err, text)
				}
			}
		}
	}
	for _, c := range clients {
		c.Close(1000)
	}
}

// TestRecordAndReplayConnections follows the section of docs/functions.md: it records a conversation of two clients,
// and replays it with the same module, without a difference, and with another one, whose difference is named.
func TestRecordAndReplayConnections(t *testing.T) {
	t.Parallel()
	commands := docCommands(t, "functions.md", "## Recorded connections")
	if len(commands) != 4 {
		t.Fatalf("the page has the commands %q", commands)
	}
	dir := t.TempDir()
	module := guests.BuildGo(t, filepath.Join(guests.Root, "examples", "functions", "chat"))
	write(t, filepath.Join(dir, "chat.wasm"), module)
	write(t, filepath.Join(dir, "chat-2.wasm"), bytes.ReplaceAll(module, []byte("chat.message"), []byte("chat.comment")))
	r := peers.StartRelay(t, chatSite(filepath.Join(dir, "chat.wasm")))
	run := func(command string, more ...string) *exec.Cmd {
		cmd := r.Command(append(strings.Fields(command), more...)...)
		cmd.Dir = dir
		return cmd
	}

	record := process.Start(t, "plugin record", run(commands[0], "--address", strings.TrimPrefix(r.Admin, "http://")))
	testkit.Eventually(t, "the recording", func() bool { return strings.Contains(record.Log(), "recording connections of chat") })
	converse(t, r)
	select {
	case <-record.Done(): // both connections are closed
	case <-t.Context().Done():
	}
	if !strings.Contains(record.Log(), "10 calls of 2 connections recorded\n") {
		t.Errorf("the recording ended with\n%s", record.Log())
	}
	recording, err := os.ReadFile(filepath.Join(dir, "visits.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"secret-": false, "sessionid=redacted-": true, "token=redacted-": true, `{"publish":"chat_lobby","type":"chat.message"`: true,
		`"hook":"on_close"`: true,
	} {
		if strings.Contains(string(recording), text) != want {
			t.Errorf("%q is in the recording: %v\n%s", text, !want, recording)
		}
	}

	for i, c := range []struct {
		code  int
		wants []string
	}{
		{0, []string{"0 calls differ, in 0 of 2 conversations"}},
		{1, []string{
			"chat-2.wasm: pass", "✗ effect 1, publish: type: chat.message → chat.comment",
			"6 calls differ, in 2 of 2 conversations", "6 of 10 calls differ",
		}},
		{0, []string{"10 samples, 0 wrong"}},
	} {
		cmd := run(commands[i+1])
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", commands[i+1], code, c.code, out)
		}
		for _, want := range c.wants {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: the output lacks %q\n%s", commands[i+1], want, out)
			}
		}
	}
}
