package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// The Autobahn test suite finds no fault in an echo server over package ws, compression included. EDGERELAY_AUTOBAHN is
// the command that runs the suite's wstest, as make compat sets it, and EDGERELAY_AUTOBAHN_CASES the cases.
func TestAutobahn(t *testing.T) {
	command := strings.Fields(os.Getenv("EDGERELAY_AUTOBAHN"))
	if len(command) == 0 {
		t.Skip("make compat runs the suite")
	}
	cases := strings.Fields(os.Getenv("EDGERELAY_AUTOBAHN_CASES"))
	if len(cases) == 0 {
		cases = []string{"*"}
	}
	server := newEcho(t)
	dir := t.TempDir()
	spec, _ := json.Marshal(map[string]any{
		"outdir": dir, "cases": cases, "exclude-cases": []string{}, "exclude-agent-cases": map[string]any{},
		"servers": []map[string]string{{"agent": "edgerelay", "url": "ws" + strings.TrimPrefix(server.URL, "http")}},
	})
	file := filepath.Join(dir, "spec.json")
	if err := os.WriteFile(file, spec, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], append(command[1:], "--mode", "fuzzingclient", "--spec", file)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	var results struct {
		Edgerelay map[string]struct{ Behavior, BehaviorClose string }
	}
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &results)
	}
	if err != nil || len(results.Edgerelay) == 0 {
		t.Fatalf("the suite reports %d cases, %v", len(results.Edgerelay), err)
	}
	behaviors := map[string]int{}
	for number, r := range results.Edgerelay {
		behaviors[r.Behavior]++
		switch r.Behavior {
		case "OK", "NON-STRICT", "INFORMATIONAL":
		default:
			t.Errorf("case %s: %s, close: %s", number, r.Behavior, r.BehaviorClose)
		}
		switch r.BehaviorClose {
		case "OK", "INFORMATIONAL":
		default:
			t.Errorf("case %s: %s, close: %s", number, r.Behavior, r.BehaviorClose)
		}
	}
	t.Logf("%d cases: %v", len(results.Edgerelay), behaviors)
}

// newEcho starts a server that sends every message back, chained to the one before where the agreement permits it.
func newEcho(t *testing.T) *httptest.Server {
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	var connections atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, reason := ws.CheckUpgrade(w, r); status != 0 {
			http.Error(w, reason, status)
			return
		}
		conn, err := ws.Accept(w, r, ws.Options{
			Poller: poller, MessageLimit: func() int { return 32 << 20 }, Deflate: true,
		})
		if err == nil {
			c := deflate.New(deflate.Settings{MinSize: 1, Level: 1})
			conn.Attend(&echo{conn, c, fmt.Sprint("echo-", connections.Add(1))})
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// echo is a connection of newEcho.
type echo struct {
	conn       *ws.Conn
	compressor *deflate.Compressor
	group      string
}

func (e *echo) Message(text bool, message []byte) {
	frame := relay.AppendFrame(nil, message)
	if !text {
		frame[0] = binary
	}
	if !e.conn.Deflates() || len(message) == 0 {
		e.conn.Send(frame, 0)
		return
	}
	b := e.compressor.Buffer(deflate.Key{Group: e.group}, deflate.Frames{
		Bytes: frame, Count: 1, Total: len(message), Longest: len(message), Last: message,
	})
	e.conn.Send(b.Frames(e.conn.Choose(&b.Compressed)), 0)
}

func (e *echo) Ended() { e.compressor.Close() }
