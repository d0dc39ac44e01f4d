package plugins

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

func TestConcealer(t *testing.T) {
	c := newConcealer([]string{"hunter2", "hunter2-long", "abc", "line one\nanother line", `quo"te<d`})
	for text, want := range map[string]string{
		"token hunter2 is wrong":  "token ••• is wrong",
		"hunter2-long, hunter2":   "•••, •••",
		"abc is too short":        "abc is too short",
		"bad line one, see above": "bad •••, see above",
		`{"t":"quo\"te<d"}`:       `{"t":"•••"}`,
		`{"t":"quo\"te\u003cd"}`:  `{"t":"•••"}`,
		`line one\nanother line`:  "•••",
		"nothing secret":          "nothing secret",
	} {
		if got := c.text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := c.cut("the token is hunter2-l"); got != "the token is •••-l" && got != "the token is •••" {
		t.Errorf("a cut secret becomes %q", got)
	}
	if got := c.cut("the token is hunte"); got != "the token is •••" {
		t.Errorf("a cut secret becomes %q", got)
	}
	err := c.error(&fs.PathError{Op: "open", Path: "/hunter2", Err: fs.ErrNotExist})
	if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	var none *concealer
	if none.text("a") != "a" || none.cut("a") != "a" || none.error(nil) != nil || newConcealer(nil) != nil {
		t.Error("a nil concealer changes a text")
	}
}

func TestSecretsAreConcealed(t *testing.T) {
	in := &instance{
		m:   &module{conceal: newConcealer([]string{"hunter2"})},
		env: &environment{log: newLogbook(slog.New(slog.DiscardHandler), "p", time.Now)},
	}
	in.log(slog.LevelInfo, "the token is hunter2")
	if line := in.env.log.snapshot()[0]; line.Text != "the token is •••" || in.lastLog != line.Text {
		t.Errorf("logged is %q", line.Text)
	}

	// A line that is too long is logged in pieces, and no secret is split.
	for at := range 40 {
		in.env.log = newLogbook(slog.New(slog.DiscardHandler), "p", time.Now)
		in.counter, in.limits.filled = &fullCounter{}, 1
		in.print(1, []byte(strings.Repeat("x", maxLogText-20+at)+"hunter2hunter2\n"))
		var all string
		for _, l := range in.env.log.snapshot() {
			all += l.Text
		}
		if want := strings.Repeat("x", maxLogText-20+at) + "••••••"; all != want {
			t.Errorf("logged is %q after %d bytes", all[maxLogText-20:], maxLogText-20+at)
		}
	}

	p := pipeline(t, Options{})
	err := p.Check(context.Background(), Spec{
		Name: "p", Wasm: fixture(t, "actor"), Grants: Grants,
		Config: []byte(`{"token": "hunter2"}`), Secrets: []string{"hunter2"},
		Samples: []Sample{{Group: "g", Payload: []byte(`{"do": "config"}`), Output: []byte(`{}`)}},
	})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "•••") {
		t.Errorf("got %v", err)
	}
}

// fullCounter is a counter whose fuel does not end.
type fullCounter struct{ api.MutableGlobal }

func (*fullCounter) Get() uint64 { return uint64(metering.NewCounter(1 << 30)) }
func (*fullCounter) Set(uint64)  {}
