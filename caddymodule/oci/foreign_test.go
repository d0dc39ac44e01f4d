package oci_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// run runs a tool, and returns its output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=", "HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// tool returns the path of a tool of EDGERELAY_OCI_TOOLS, a folder that make compat fills; otherwise it skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("EDGERELAY_OCI_TOOLS")
	if dir == "" {
		t.Skip("make compat runs this test, with oras and crane")
	}
	path, err := exec.LookPath(filepath.Join(dir, name))
	if err != nil {
		if name == "cosign" {
			t.Skipf("%s has no cosign, which takes long to build; put it there", dir)
		}
		t.Fatal(err)
	}
	return path
}

func TestRealRegistry(t *testing.T) {
	address := registry.StartDistribution(t)
	ref := reference(t, "oci://"+address+"/plugins/redact:2.0")
	wasm := module(t, "pass")
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := artifact.Sign(wasm, private)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	pushed, err := new(oci.Registry).Push(ctx, ref, wasm, []artifact.Signature{*s})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []oci.Reference{ref, pushed} {
		a, err := new(oci.Registry).Pull(ctx, from)
		if err != nil || !bytes.Equal(a.Module, wasm) || a.Ref.Digest != pushed.Digest {
			t.Fatalf("pulled %+v, %v", a, err)
		}
		if _, err := (artifact.Keys{{Name: "ops", Public: public}}).Verify(wasm, "redact", a.Signatures); err != nil {
			t.Error(err)
		}
	}
	for missing, want := range map[string]string{
		"/plugins/redact:9": "check the repository", "/plugins/other:1": "check the repository",
		"/plugins/redact@" + artifact.Digest(nil): "check the repository",
	} {
		if _, err := new(oci.Registry).Pull(ctx, reference(t, "oci://"+address+missing)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

// Tools of other projects read what we push, and we read what they push.
func TestOras(t *testing.T) {
	oras := tool(t, "oras")
	address := registry.StartDistribution(t)
	wasm := module(t, "pass")
	ctx := context.Background()
	if _, err := new(oci.Registry).Push(ctx, reference(t, "oci://"+address+"/ours:1"), wasm, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run(t, dir, oras, "pull", "--plain-http", address+"/ours:1")
	if got, err := os.ReadFile(filepath.Join(dir, "plugin.wasm")); err != nil || !bytes.Equal(got, wasm) {
		t.Errorf("oras pulled %d bytes, %v", len(got), err)
	}
	run(t, dir, oras, "push", "--plain-http", address+"/theirs:1", "plugin.wasm:application/wasm",
		"--artifact-type", artifact.ConfigType)
	a, err := new(oci.Registry).Pull(ctx, reference(t, "oci://"+address+"/theirs:1"))
	if err != nil || !bytes.Equal(a.Module, wasm) {
		t.Errorf("pulled %+v, %v", a, err)
	}
	run(t, dir, oras, "push", "--plain-http", address+"/other:1", "plugin.wasm:application/wasm")
	if _, err := new(oci.Registry).Pull(ctx, reference(t, "oci://"+address+"/other:1")); err == nil ||
		!strings.Contains(err.Error(), "or with the config or artifact type "+artifact.ConfigType) {
		t.Errorf("another type of artifact: %v", err)
	}
}

func TestCrane(t *testing.T) {
	crane := tool(t, "crane")
	address := registry.StartDistribution(t)
	ctx := context.Background()
	wasm := module(t, "pass")
	pushed, err := new(oci.Registry).Push(ctx, reference(t, "oci://"+address+"/ours:1"), wasm, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run(t, dir, crane, "validate", "--fast", "--insecure", "--remote", address+"/ours:1")
	if got := strings.TrimSpace(run(t, dir, crane, "digest", "--insecure", address+"/ours:1")); got != pushed.Digest {
		t.Errorf("crane's digest is %s, ours %s", got, pushed.Digest)
	}
	run(t, dir, crane, "copy", "--insecure", address+"/ours:1", address+"/copied:2")
	a, err := new(oci.Registry).Pull(ctx, reference(t, "oci://"+address+"/copied:2"))
	if err != nil || !bytes.Equal(a.Module, wasm) || a.Ref.Digest != pushed.Digest {
		t.Errorf("pulled %+v, %v", a, err)
	}
}

// Cosign verifies our signatures, and we verify those of cosign.
func TestCosign(t *testing.T) {
	cosign := tool(t, "cosign")
	address := registry.StartDistribution(t)
	ctx := context.Background()
	dir := t.TempDir()
	private, public, err := artifact.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"a.key": private, "a.pub": public} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := artifact.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	wasm := module(t, "pass")
	s, err := artifact.Sign(wasm, key, "redact")
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := new(oci.Registry).Push(ctx, reference(t, "oci://"+address+"/ours:1"), wasm, []artifact.Signature{*s})
	if err != nil {
		t.Fatal(err)
	}
	image := func(ref oci.Reference) string { return ref.Registry + "/" + ref.Repository + "@" + ref.Digest }
	out := run(t, dir, cosign, "verify", "--key", "a.pub", "--insecure-ignore-tlog=true", "--allow-http-registry", image(pushed))
	if !strings.Contains(out, "edgerelay.plugin") {
		t.Errorf("cosign says %s", out)
	}
	theirs, err := new(oci.Registry).Push(ctx, reference(t, "oci://"+address+"/theirs:1"), wasm, nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, cosign, "import-key-pair", "--key", "a.key", "--output-key-prefix", "imported")
	run(t, dir, cosign, "sign", "--key", "imported.key", "--tlog-upload=false", "--allow-http-registry", "-y",
		"-a", "edgerelay.plugin=redact", image(theirs))
	a, err := new(oci.Registry).Pull(ctx, theirs)
	if err != nil {
		t.Fatal(err)
	}
	keys := artifact.Keys{{Name: "ops", Public: key.Public().(ed25519.PublicKey)}}
	if _, err := keys.Verify(a.Module, "redact", a.Signatures); err != nil {
		t.Errorf("%d signatures of cosign, %v: %v", len(a.Signatures), a.SignaturesErr, err)
	}
	if _, err := keys.Verify(a.Module, "coalesce", a.Signatures); err == nil {
		t.Error("cosign's signature for another plugin was accepted")
	}
}
