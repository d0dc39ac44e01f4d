package e2e

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// largeModule returns a module of many plain functions, about size bytes, which takes the compiler seconds.
func largeModule(size int) []byte {
	leb := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	section := func(id byte, parts ...[]byte) []byte {
		body := slices.Concat(parts...)
		return slices.Concat([]byte{id}, leb(len(body)), body)
	}
	body := []byte{1, 4, 0x7f} // four locals
	for i := range 600 {
		body = append(body, 0x20, byte(i%4), 0x20, byte(i/4%4), 0x6c, 0x41, byte(i%64), 0x6a, 0x21, byte(i/3%4))
	}
	body = append(body, 0x0b)
	n := size / len(body)
	code := [][]byte{leb(n)}
	for range n {
		code = append(code, leb(len(body)), body)
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, []byte{1, 0x60, 0, 0}),
		section(3, leb(n), make([]byte, n)), section(10, code...))
}

// compilersOf returns the process ids of the children of a process that compile plugins.
func compilersOf(pid int) (children []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		list, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(list)) {
			if line, _ := os.ReadFile("/proc/" + child + "/cmdline"); strings.Contains(string(line), "compile-plugin") {
				children = append(children, child)
			}
		}
	}
	return children
}

// TestNothingWaitsForTheCompiler deploys a module that takes long to compile. Other deployments, a reload and the end
// of the server come first.
func TestNothingWaitsForTheCompiler(t *testing.T) {
	t.Parallel()
	const loading = "plugin_loading {\ncpu 300s\ntime 300s\nmemory 1GiB\n}\n"
	site := strings.ReplaceAll(`{
		admin {$ADMIN}
		skip_install_trust
		edgerelay {
			channel_layer memory
			auth none
			LOADING
			PLUGINS
		}
	}
	{$SITE} {
		edgerelay_health
		edgerelay
		respond ok
	}`, "PLUGINS", plugin("slow", guest(t, "pass"), "groups s-*")+"\n"+plugin("quick", guest(t, "pass"), "groups q-*"))
	site = strings.Replace(site, "LOADING", loading, 1)
	r := peers.StartRelay(t, site)
	pid := r.PID()

	slow := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(putModule(r, "slow", largeModule(12<<20)))
		if err == nil {
			_ = resp.Body.Close()
		}
		slow <- fmt.Sprint(resp, err)
	}()
	var child string
	testkit.Eventually(t, "the compiler", func() error {
		for _, c := range compilersOf(pid) {
			child = c
			return nil
		}
		return fmt.Errorf("no child")
	})
	stillSlow := func(after string) {
		t.Helper()
		select {
		case got := <-slow:
			t.Fatalf("the slow deployment ended before %s: %s", after, got)
		default:
		}
	}
	const limits = "Max cpu time 300 300 seconds Max file size 67108864 67108864 bytes Max data size 1073741824 1073741824"
	testkit.Eventually(t, "the limits of the child", func() error {
		text, err := os.ReadFile("/proc/" + child + "/limits")
		if got := strings.Join(strings.Fields(string(text)), " "); !strings.Contains(got, limits) {
			return fmt.Errorf("%s (%v)", got, err)
		}
		return nil
	})
	if environment, _ := os.ReadFile("/proc/" + child + "/environ"); strings.Contains(string(environment), "XDG_") {
		t.Errorf("the child's environment is %q", environment)
	}
	if code, body := pluginCall(t, r, http.MethodPut, "quick", tagger(t, "one1")); code != http.StatusOK {
		t.Errorf("the deployment of another plugin: %d %s", code, body)
	}
	stillSlow("the deployment of another plugin")
	if err := r.Load(strings.Replace(site, "respond ok", "respond fine", 1)); err != nil {
		t.Errorf("a reload: %v", err)
	}
	stillSlow("a reload")
	if row := pluginRowOf(t, r, "slow"); row.Engine != "compiler" {
		t.Errorf("the engine is %q", row.Engine)
	}
	if err := r.Stop(t, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if line, err := os.ReadFile("/proc/" + child + "/cmdline"); err == nil && len(line) > 0 { // empty: ended
		t.Errorf("the compiler outlives the server: %q", line)
	}
	cache := filepath.Join(r.Command().Dir, "caddy", "edgerelay", "plugins-cache")
	if left, _ := filepath.Glob(filepath.Join(cache, "compiling-*")); len(left) > 0 {
		t.Errorf("the cache has %q", left)
	}
}

func putModule(r *peers.Relay, name string, wasm []byte) *http.Request {
	req, err := http.NewRequest(http.MethodPut, r.Admin+"/edgerelay/plugins/"+name, strings.NewReader(string(wasm)))
	if err != nil {
		panic(err)
	}
	return req
}
