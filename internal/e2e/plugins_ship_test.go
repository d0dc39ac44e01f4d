package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
	"github.com/edgerelay/edgerelay/plugins"
)

const shipSite = `{
	admin {$ADMIN}
	edgerelay {
		auth none
		%s
	}
}
{$SITE} {
	edgerelay
}
`

// offline runs a command of the relay's Caddy that needs no relay.
func offline(t *testing.T, r *peers.Relay, dir string, args ...string) (out string, code int) {
	t.Helper()
	cmd := r.Command(append([]string{"edgerelay", "plugin"}, args...)...)
	cmd.Dir = dir
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

// TestPluginsShip: a module is signed, pushed to a registry and deployed from there, and nothing else gets in.
func TestPluginsShip(t *testing.T) {
	address := registry.StartDistribution(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "one.wasm"), filepath.Join(dir, "two.wasm")
	write(t, first, tagger(t, "one1"))
	write(t, second, tagger(t, "two2"))
	block := plugin("tag", first, "groups tags-*")
	r := peers.StartRelay(t, fmt.Sprintf(shipSite, block))
	must := func(args ...string) string {
		t.Helper()
		out, code := offline(t, r, dir, args...)
		if code != 0 {
			t.Fatalf("plugin %v: %s", args, out)
		}
		return out
	}
	key := strings.TrimSpace(regexp.MustCompile(`(?m)^plugin_key .*$`).FindString(must("keygen", "ops")))
	must("sign", first, "--key", "ops.key", "--for", "tag")
	must("verify", first, "--key", "ops.pub", "--for", "tag")
	if out, code := offline(t, r, dir, "verify", second, "--key", "ops.pub"); code == 0 || !strings.Contains(out, "not signed") {
		t.Errorf("verify: %s", out)
	}
	if err := r.Load(fmt.Sprintf(shipSite, key+"\n"+block)); err != nil {
		t.Fatal(err)
	}
	tag := "oci://" + address + "/plugins/tag:2.0"
	must("push", second, tag)
	refused := func(want string, args ...string) {
		t.Helper()
		if out, code := run(t, r, append([]string{"plugin", "deploy", "tag"}, args...)...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("deploy %v: %s, want %q", args, out, want)
		}
	}
	refused("is not signed", tag)
	refused("is not signed", second)
	must("sign", second, "--key", "ops.key", "--for", "other")
	refused("for the plugin other, not tag", second)
	must("sign", second, "--key", "ops.key", "--for", "tag")
	pushed := lines(must("push", second, tag), "oci://")
	if len(pushed) != 1 {
		t.Fatalf("pushed %q", pushed)
	}
	if out := must("inspect", tag); !strings.Contains(out, strings.TrimSpace(pushed[0])) || !strings.Contains(out, "signatures   2") {
		t.Errorf("inspect: %s", out)
	}
	if out, code := run(t, r, "plugin", "deploy", "tag", tag); code != 0 {
		t.Fatalf("deploy: %s", out)
	}
	if row := pluginRowOf(t, r, "tag"); row.Hash != plugins.Hash(tagger(t, "two2")) {
		t.Errorf("runs %s", row.Hash)
	}
	history, _ := run(t, r, "plugin", "history", "tag")
	if !strings.Contains(history, strings.TrimSpace(pushed[0])) {
		t.Errorf("history: %s", history)
	}
	var row struct {
		Ref      string
		SignedBy string `json:"signed_by"`
	}
	if err := json.Unmarshal([]byte(fetch(t, r.Admin+"/edgerelay/plugins/tag")), &row); err != nil ||
		row.SignedBy != "ops" || row.Ref != strings.TrimSpace(pushed[0]) {
		t.Errorf("the plugin is %+v, %v", row, err)
	}
	// A changed file without a signature is refused, and seen.
	write(t, first, tagger(t, "tre3"))
	testkit.Eventually(t, "the node's health tells of the file", func() bool {
		return strings.Contains(fetch(t, r.Admin+"/edgerelay/health"), "it is for the module")
	})
	if metrics := fetch(t, r.Admin+"/metrics"); !strings.Contains(metrics, `edgerelay_plugin_signatures_refused_total{plugin="tag"}`) {
		t.Error("no metric counts the refusals")
	}
	if code, body := pluginCall(t, r, http.MethodPut, "tag", tagger(t, "tre3")); code != http.StatusUnprocessableEntity {
		t.Errorf("PUT: %d %s", code, body)
	}
	if row := pluginRowOf(t, r, "tag"); row.Hash != plugins.Hash(tagger(t, "two2")) {
		t.Errorf("runs %s", row.Hash)
	}
}
