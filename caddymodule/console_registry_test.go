package caddymodule

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// An actor deploys a module from an allowed repository, with its digest in the history; other repositories are refused
// before the node connects to them.
func TestConsoleDeploysFromRegistries(t *testing.T) {
	allowed := registry.New().Start(t)
	foreign := registry.New().Start(t)
	push := func(text string) oci.Reference {
		t.Helper()
		ref, err := oci.ParseReference(text)
		if err == nil {
			ref, err = new(oci.Registry).Push(t.Context(), ref, pluginBytes(t, "filter"), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	ref := push("oci://" + allowed + "/plugins/filter:1.0")
	push("oci://" + allowed + "/plugins-of-others/filter:1.0")
	push("oci://" + foreign + "/plugins/filter:1.0")

	k := newConsoleKit(t)
	lines := "auth awx " + k.awx + "\nplugin p " + pluginFile(t, "pass") + " {\ngroups none-*\n}"
	deploy := func(reference string) (int, string) {
		t.Helper()
		return k.act("root", "pull", `{"plugin": "p", "ref": "`+reference+`", "message": "why"}`)
	}
	k.setUp(lines, "actions on\nuploads on")
	status, body := deploy("oci://" + allowed + "/plugins/filter:1.0")
	if status != 403 || !strings.Contains(body, "registries") {
		t.Errorf("without the setting: %d %s", status, body)
	}
	k.setUp(lines, "actions on\nregistries "+allowed+"/plugins/")
	_, session := k.call("GET", "/edgerelay/session", "", cookie("root")...)
	if !strings.Contains(session, `"registries":["`+allowed+`/plugins"]`) {
		t.Errorf("session: %s", session)
	}
	for reference, want := range map[string]int{
		"oci://" + allowed + "/plugins-of-others/filter:1.0": 403,
		"oci://" + allowed + "/other/filter:1.0":             403,
		"oci://" + foreign + "/plugins/filter:1.0":           403,
		"oci://" + allowed + "/plugins/../x:1.0":             400,
		"https://" + allowed + "/plugins/filter:1.0":         400,
		"":                                       400,
		"oci://" + allowed + "/plugins/none:9.9": 502,
	} {
		if status, body := deploy(reference); status != want {
			t.Errorf("%q: %d %s, want %d", reference, status, body, want)
		}
	}
	if _, body := k.call("GET", "/edgerelay/versions?plugin=p", "", cookie("root")...); strings.Contains(body, `"by"`) {
		t.Errorf("a refused reference changed the plugin: %s", body)
	}
	if status, body := deploy("oci://" + allowed + "/plugins/filter:1.0"); status != 200 {
		t.Errorf("an allowed reference: %d %s", status, body)
	}
	_, body = k.call("GET", "/edgerelay/versions?plugin=p", "", cookie("root")...)
	for _, want := range []string{`"ref":"` + ref.String() + `"`, `"by":"root"`, `"message":"why"`} {
		if !strings.Contains(body, want) {
			t.Errorf("versions lack %s: %s", want, body)
		}
	}
	log, err := os.ReadFile(k.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"action":"pull","object":"plugin p, ` + ref.String(), `"console action failed"`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// With a key, the console deploys a module with its signature from the registry, and refuses one without.
func TestConsoleDeploysSignedModulesFromRegistries(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(wasm []byte) []artifact.Signature {
		t.Helper()
		s, err := artifact.Sign(wasm, private)
		if err != nil {
			t.Fatal(err)
		}
		return []artifact.Signature{*s}
	}
	file := filepath.Join(t.TempDir(), "pass.wasm")
	signatures, err := artifact.FormatSignatures(sign(pluginBytes(t, "pass")))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{file: pluginBytes(t, "pass"), file + ".sig": signatures} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := registry.New().Start(t) // it has one repository under all names
	for tag, module := range map[string]string{"signed": "filter", "unsigned": "pass"} {
		ref, err := oci.ParseReference("oci://" + address + "/plugins/p:" + tag)
		if err == nil {
			wasm := pluginBytes(t, module)
			signatures := map[string][]artifact.Signature{"signed": sign(wasm)}[tag]
			_, err = new(oci.Registry).Push(t.Context(), ref, wasm, signatures)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx+"\nplugin_key a "+base64.StdEncoding.EncodeToString(spki)+
		"\nplugin p "+file+" {\ngroups none-*\n}",
		"actions on\nregistries "+address)
	status, body := k.act("root", "pull", `{"plugin": "p", "ref": "oci://`+address+`/plugins/p:unsigned"}`)
	if status == 200 || !strings.Contains(body, "is not signed") {
		t.Errorf("unsigned: %d %s", status, body)
	}
	status, body = k.act("root", "pull", `{"plugin": "p", "ref": "oci://`+address+`/plugins/p:signed"}`)
	if status != 200 || !strings.Contains(body, `"signed_by":"a"`) {
		t.Errorf("signed: %d %s", status, body)
	}
}
