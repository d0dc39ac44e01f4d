package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/guests"
)

// A reload without a redactor that is rejected, because another app cannot start, lets no event pass in clear, even if
// the redactor's file cannot be read any more.
func TestRejectedReloadsKeepPlugins(t *testing.T) {
	wasm, err := os.ReadFile(filepath.Join(guests.Root, "examples", "plugins", "redact-c", "plugin.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "redact.wasm")
	write(t, file, wasm)
	busy := httptest.NewServer(nil)
	defer busy.Close()
	r := peers.StartRelay(t, strings.Replace(memorySite, "auth none",
		"auth none\nchannel_layer memory\n"+plugin("redact", file, "groups jobs-*"), 1))
	rejected := strings.Replace(memorySite, "auth none", "auth none\nchannel_layer memory", 1) +
		busy.URL + " {\nbind 127.0.0.1\nrespond x\n}\n"
	c := subscriber(t, r.URL, peers.Login{CSRF: "t"}, "jobs-1")
	reloaded := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		defer close(reloaded)
		for n := range 16 { // apps start in random order
			if n == 8 {
				write(t, file, []byte("not a module"))
			}
			if err := r.Load(rejected); err == nil {
				t.Error("a configuration with a port in use was accepted")
			}
		}
	})
	defer reloads.Wait()
	for last := false; !last && !t.Failed(); {
		select {
		case <-reloaded:
			last = true
		default:
		}
		resp, err := http.Post(r.Admin+"/edgerelay/publish", "application/json",
			strings.NewReader(`{"group":"jobs-1","data":{"stdout":"password=hunter2"}}`))
		if err != nil { // the admin endpoint is being replaced, and may have sent the event: all events are equal
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			continue
		}
		if text, err := c.Next(patience); err != nil || text != `{"stdout":"password=********"}` {
			t.Fatalf("got %q, %v", text, err)
		}
	}
}
