package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// Settings that can never work are refused before they are in force: placeholders for nothing, and sizes that no
// machine has.
func TestImpossibleSettingsAreRejected(t *testing.T) {
	t.Parallel()
	plugin := filepath.Join(t.TempDir(), "plugin.wasm")
	for name, c := range map[string]struct{ block, want string }{
		"tls_server_name": {"backplane {\nsecret s\ntls_server_name {env.NOT_SET_AT_ALL}\n}", "NOT_SET_AT_ALL"},
		"tls_ca":          {"backplane {\nsecret s\ntls_ca {env.NOT_SET_AT_ALL}\n}", "tls_ca: evaluated placeholder"},
		"queue_per_peer":  {"backplane {\nsecret s\nqueue_per_peer 9EiB\n}", "9EiB"},
		"frame_size":      {"backplane {\nsecret s\nframe_size 9EiB\n}", "9EiB"},
		"memory":          {"plugin p " + plugin + " {\ngroups *\nmemory 9EiB\n}", "9EiB"},
		"retry":           {"backplane {\nsecret s\nretry 100000d\n}", "retry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "Caddyfile")
			text := "{\nadmin off\nedgerelay {\nauth none\n" + c.block + "\n}\n}\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(peers.RelayBinary(t), "validate", "--config", file, "--adapter", "caddyfile")
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v, want an error about %s:\n%s", err, c.want, out)
			}
		})
	}
}
