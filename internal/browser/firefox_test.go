package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// Firefox is a browser with an empty profile that accepts any certificate, driven by WebDriver BiDi
// (https://w3c.github.io/webdriver-bidi/), which it speaks itself.
type Firefox struct {
	ctx  context.Context
	conn *websocket.Conn

	mu   sync.Mutex // one command at a time
	last int
}

var bidiAddress = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

// OpenFirefox starts Firefox until the end of the test. A missing Firefox fails the test, with the install command.
func OpenFirefox(t testing.TB) *Firefox {
	t.Helper()
	program, err := exec.LookPath("firefox-esr")
	if err != nil {
		if program, err = exec.LookPath("firefox"); err != nil {
			t.Fatal("no Firefox in PATH: apt-get install -y firefox-esr")
		}
	}
	cmd := exec.Command(program, "--headless", "--no-remote", "--profile", t.TempDir(), "--remote-debugging-port=0")
	p := process.Start(t, "Firefox", cmd)
	var address string
	testkit.EventuallyWithin(t, time.Minute, "Firefox listens", func() error {
		found := bidiAddress.FindStringSubmatch(p.Log())
		if found == nil {
			return errors.New("no address yet")
		}
		address = found[1]
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, address+"/session", nil)
	if err != nil {
		t.Fatalf("connecting to Firefox: %v", err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	f := &Firefox{ctx: ctx, conn: conn}
	f.must(t, "session.new", `{"capabilities":{"alwaysMatch":{"acceptInsecureCerts":true}}}`, nil)
	// Let Firefox end by itself, so that nothing writes to the profile while it is removed.
	t.Cleanup(func() {
		if err := f.call("browser.close", `{}`, nil); err != nil {
			t.Logf("closing Firefox: %v", err)
		}
		select {
		case <-p.Done():
		case <-time.After(20 * time.Second):
		}
	})
	return f
}

// call runs a command and decodes its result. Events are ignored.
func (f *Firefox) call(method, params string, result any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	command := map[string]any{"id": f.last, "method": method, "params": json.RawMessage(params)}
	if err := wsjson.Write(f.ctx, f.conn, command); err != nil {
		return err
	}
	for {
		var answer struct {
			ID             int
			Type           string
			Result         json.RawMessage
			Error, Message string
		}
		if err := wsjson.Read(f.ctx, f.conn, &answer); err != nil {
			return err
		}
		switch {
		case answer.ID != f.last:
		case answer.Type == "error":
			return fmt.Errorf("%s: %s: %s", method, answer.Error, answer.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(answer.Result, result)
		}
	}
}

func (f *Firefox) must(t testing.TB, method, params string, result any) {
	t.Helper()
	if err := f.call(method, params, result); err != nil {
		t.Fatalf("Firefox: %v", err)
	}
}

// Tab opens another tab.
func (f *Firefox) Tab(t testing.TB) Tab {
	t.Helper()
	var opened struct{ Context string }
	f.must(t, "browsingContext.create", `{"type":"tab","background":false}`, &opened)
	return &firefoxTab{f, opened.Context}
}

type firefoxTab struct {
	firefox *Firefox
	context string
}

// Go implements [Tab].
func (p *firefoxTab) Go(t testing.TB, url string) {
	t.Helper()
	params := fmt.Sprintf(`{"context":%q,"url":%q,"wait":"complete"}`, p.context, url)
	p.firefox.must(t, "browsingContext.navigate", params, nil)
}

// Value implements [Tab].
func (p *firefoxTab) Value(t testing.TB, expression string) string {
	t.Helper()
	text, err := json.Marshal("String(" + expression + ")")
	if err != nil {
		t.Fatal(err)
	}
	var evaluated struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	params := fmt.Sprintf(`{"expression":%s,"target":{"context":%q},"awaitPromise":false}`, text, p.context)
	p.firefox.must(t, "script.evaluate", params, &evaluated)
	if evaluated.Type != "success" {
		t.Fatalf("Firefox: %s: %s", expression, evaluated.ExceptionDetails.Text)
	}
	return evaluated.Result.Value
}

// Wait implements [Tab].
func (p *firefoxTab) Wait(t testing.TB, within time.Duration, expression string) {
	t.Helper()
	waitFor(t, p, within, expression)
}
