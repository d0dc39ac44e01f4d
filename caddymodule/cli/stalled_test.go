package cli

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// stalledSite is a web server that begins a JSON response and never ends it.
func stalledSite(t *testing.T, status int) (address string) {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"status": `))
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	return strings.TrimPrefix(server.URL, "http://")
}

// Container engines know the exit codes 0 and 1 of a health check, also for a response that does not end.
func TestHealthOfAStalledResponse(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		out := runProgram(t, program(t, "edgerelay", "health", "--address", stalledSite(t, status)))
		if out.code != exitFailed || !strings.Contains(out.stderr, "no response within 2.5s; ") {
			t.Errorf("status %d: %+v", status, out)
		}
	}
}

// An error whose body does not end comes from a silent relay, not from another program.
func TestStalledErrorsAreSilences(t *testing.T) {
	for _, path := range []string{"/edgerelay/doctor", "/edgerelay/plugins/p/recording"} {
		place := adminAddress{stalledSite(t, http.StatusConflict), "from --address"}
		watch := watchSilence(t.Context(), place, http.MethodGet, path)
		watch.limit = 50 * time.Millisecond
		req, err := http.NewRequestWithContext(watch.ctx, http.MethodGet, "http://"+place.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body = watch.body(resp)
		err = place.readError(path, resp)
		if exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "no response within 50ms") {
			t.Errorf("%s: error %v (exit code %d)", path, err, exitCode(err))
		}
	}
}

// A recording that is cut is told from one with a line that is too long.
func TestRecordingErrors(t *testing.T) {
	silent := errors.New("the disk of the other side has failed")
	for _, c := range []struct {
		name, want string
		recording  io.Reader
	}{
		{"end", "", strings.NewReader("{}\n")},
		{"cut line", "the relay ended the recording", strings.NewReader("{}\n{")},
		{
			"cut response", "the relay ended the recording",
			io.MultiReader(strings.NewReader("{}\n{"), failing{io.ErrUnexpectedEOF}),
		},
		{
			"reset connection", "the relay ended the recording",
			failing{&net.OpError{Op: "read", Err: syscall.ECONNRESET}},
		},
		{"long line", "a line has more than 128 MiB", &endless{}},
		{"other error", silent.Error(), failing{silent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := new(recordedSum).copy(io.Discard, c.recording)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// failing is a reader with an error.
type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// plugin dev waits as long as the relay may compile, whatever its Caddyfile sets.
func TestDevWaitsForTheLongestCompilation(t *testing.T) {
	if loadTimeout <= plugins.MaxCompileTime {
		t.Errorf("waits %v, a compilation may take %v", loadTimeout, plugins.MaxCompileTime)
	}
}

// plugin dev leaves no folder behind if it finds no port.
func TestDevWithoutAPortLeavesNoFolder(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"build.sh": "", "Caddyfile": "{$DEV_ADMIN:a} {$DEV_PLUGIN:b} {$DEV_SITE:c}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", temp)
	o := pluginDev{dir: dir, w: new(bytes.Buffer), choosePort: func() (int, error) { return 0, syscall.EMFILE }}
	if err := o.run(t.Context()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}
