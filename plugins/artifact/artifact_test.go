package artifact_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

func module(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// newKey returns a private key, and its public key as a configuration has it.
func newKey(t testing.TB, name string) (ed25519.PrivateKey, artifact.Key) {
	t.Helper()
	private, public, err := artifact.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := artifact.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := artifact.ParsePublicKey(string(public))
	if err != nil {
		t.Fatal(err)
	}
	line, err := artifact.FormatPublicKey(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := artifact.ParsePublicKey(line); err != nil || !again.Equal(parsed) {
		t.Fatalf("the line %s is %v, %v", line, again, err)
	}
	return key, artifact.Key{Name: name, Public: parsed}
}

func TestPackDescribesTheModule(t *testing.T) {
	wasm, err := plugins.EmbedManifest(module(t, "pass"), []byte(
		`{"name": "redact ../x", "version": "2.0", "description": "masks", "source": "https://example.com/redact"}`))
	if err != nil {
		t.Fatal(err)
	}
	manifest, config, err := artifact.Pack(wasm)
	if err != nil {
		t.Fatal(err)
	}
	m, err := artifact.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.CheckConfig(config), m.CheckModule(wasm)); err != nil {
		t.Error(err)
	}
	if m.ArtifactType != artifact.ConfigType || m.Module().MediaType != artifact.ModuleType ||
		m.Module().Digest != "sha256:"+plugins.Hash(wasm) || m.Config.Digest != artifact.Digest(config) {
		t.Errorf("manifest %s", manifest)
	}
	if got := m.Module().Annotations["org.opencontainers.image.title"]; got != "redact----x.wasm" {
		t.Errorf("file name %q", got)
	}
	for name, want := range map[string]string{
		"title": "redact ../x", "version": "2.0", "description": "masks", "source": "https://example.com/redact",
	} {
		if got := m.Annotations["org.opencontainers.image."+name]; got != want {
			t.Errorf("annotation %s is %q, want %q", name, got, want)
		}
	}
	if again, _, err := artifact.Pack(wasm); err != nil || string(again) != string(manifest) {
		t.Errorf("a second manifest is %s, %v", again, err)
	}
}

// change returns a manifest of the module with a change.
func change(t *testing.T, wasm []byte, f func(*artifact.Manifest)) []byte {
	t.Helper()
	text, _, err := artifact.Pack(wasm)
	if err != nil {
		t.Fatal(err)
	}
	m := &artifact.Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	f(m)
	if text, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestForeignArtifactsAreRefused(t *testing.T) {
	wasm := module(t, "pass")
	for _, c := range []struct {
		name, want string
		change     func(*artifact.Manifest)
	}{
		{"index", "index of several artifacts", func(m *artifact.Manifest) { m.MediaType = artifact.IndexType }},
		{"docker image", "container image", func(m *artifact.Manifest) {
			m.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
		}},
		{"schema 1", "schema version 1", func(m *artifact.Manifest) { m.SchemaVersion = 1 }},
		{"other artifact", "no WebAssembly module; push the module with", func(m *artifact.Manifest) {
			m.Config.MediaType, m.ArtifactType = "application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm"
		}},
		{"two layers", "2 layers", func(m *artifact.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }},
		{"no layer", "0 layers", func(m *artifact.Manifest) { m.Layers = nil }},
		{"archive", "single layer of type application/wasm", func(m *artifact.Manifest) {
			m.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
		}},
		{"sha512", "push the module with sha256", func(m *artifact.Manifest) { m.Layers[0].Digest = "sha512:00" }},
		{"oversized", "modules of 1 to 16777216 bytes", func(m *artifact.Manifest) { m.Layers[0].Size = 16<<20 + 1 }},
		{"negative", "modules of 1 to", func(m *artifact.Manifest) { m.Layers[0].Size = -1 }},
		{"large config", "config has", func(m *artifact.Manifest) { m.Config.Size = 1 << 20 }},
		{"large manifest", "more than 16384", func(m *artifact.Manifest) {
			m.Annotations = map[string]string{"x": strings.Repeat("x", artifact.MaxManifest)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := artifact.ParseManifest(change(t, wasm, c.change))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := artifact.ParseManifest([]byte("{")); err == nil {
		t.Error("a manifest that is not JSON was accepted")
	}
}

func TestConfigsAreChecked(t *testing.T) {
	wasm := module(t, "pass")
	m, err := artifact.ParseManifest(change(t, wasm, func(*artifact.Manifest) {}))
	if err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{
		`{}`:                                  "",
		`{"architecture": "wasm"}`:            "",
		`{"architecture": "amd64"}`:           "architecture",
		`{"os": "wasip2"}`:                    "not components",
		`{"layerDigests": ["sha256:00"]}`:     "other layers",
		`[]`:                                  "not valid",
		`{"layerDigests": [], "os": "linux"}`: "system",
	} {
		err := m.CheckConfig([]byte(config))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	if err := m.CheckModule([]byte("\x00asm\x0d\x00\x01\x00")); err == nil {
		t.Error("another module was accepted")
	}
}

func TestSignaturesAreVerified(t *testing.T) {
	wasm, other := module(t, "pass"), module(t, "filter")
	private, key := newKey(t, "ops")
	stranger, strangersKey := newKey(t, "stranger")
	sign := func(wasm []byte, key ed25519.PrivateKey, plugins ...string) artifact.Signature {
		s, err := artifact.Sign(wasm, key, plugins...)
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	good := sign(wasm, private)
	tampered, swapped := good, good
	tampered.Payload = append([]byte(" "), good.Payload...)
	swapped.Manifest = sign(other, private).Manifest
	forged := good
	forged.Signature = ed25519.Sign(stranger, good.Payload)
	prehashed := func(key ed25519.PrivateKey) artifact.Signature { // as cosign signs from 2.6 on
		s, hash := good, sha512.Sum512(good.Payload)
		var err error
		if s.Signature, err = key.Sign(nil, hash[:], &ed25519.Options{Hash: crypto.SHA512}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	resigned := good // another purpose of the same key
	resigned.Payload = []byte(strings.Replace(string(good.Payload), "cosign container image signature", "login", 1))
	resigned.Signature = ed25519.Sign(private, resigned.Payload)
	for _, c := range []struct {
		name, want string
		signatures []artifact.Signature
	}{
		{"good", "", []artifact.Signature{good}},
		{"good among others", "", []artifact.Signature{tampered, sign(wasm, stranger), good}},
		{"of the hash", "", []artifact.Signature{prehashed(private)}},
		{"of the hash, by a stranger", "signed by none", []artifact.Signature{prehashed(stranger)}},
		{"for this plugin", "", []artifact.Signature{sign(wasm, private, "other", "redact")}},
		{"none", "is not signed", nil},
		{"stranger", "signed by none of the keys ops", []artifact.Signature{sign(wasm, stranger)}},
		{"forged", "signed by none of the keys ops", []artifact.Signature{forged}},
		{"tampered payload", "signed by none", []artifact.Signature{tampered}},
		{"other module", "it is for the module", []artifact.Signature{sign(other, private)}},
		{"other manifest", "OCI manifest", []artifact.Signature{swapped}},
		{"other plugin", "for the plugin coalesce, not redact", []artifact.Signature{sign(wasm, private, "coalesce")}},
		{"other purpose", "type \"login\"", []artifact.Signature{resigned}},
		{"no content", "signed by none", []artifact.Signature{{}}},
		{"too many", "more than 8", make([]artifact.Signature, 9)},
	} {
		t.Run(c.name, func(t *testing.T) {
			by, err := artifact.Keys{key}.Verify(wasm, "redact", c.signatures)
			switch {
			case c.want == "" && (err != nil || by != "ops"):
				t.Errorf("signed by %q, %v", by, err)
			case c.want != "" && (!errors.Is(err, artifact.ErrSignature) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	// A module with the signatures of two keys is accepted by either: keys can be exchanged one after the other.
	both := artifact.Merge([]artifact.Signature{good}, sign(wasm, stranger), good)
	if len(both) != 2 {
		t.Errorf("%d signatures after merging", len(both))
	}
	if by, err := (artifact.Keys{strangersKey}).Verify(wasm, "redact", both); err != nil || by != "stranger" {
		t.Errorf("signed by %q, %v", by, err)
	}
}

func TestSignatureFiles(t *testing.T) {
	private, key := newKey(t, "ops")
	wasm := module(t, "pass")
	s, err := artifact.Sign(wasm, private, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	text, err := artifact.FormatSignatures([]artifact.Signature{*s})
	if err != nil {
		t.Fatal(err)
	}
	list, err := artifact.ParseSignatures(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (artifact.Keys{key}).Verify(wasm, "b", list); err != nil {
		t.Error(err)
	}
	if got := strings.Join(list[0].Plugins(), " "); got != "a b" {
		t.Errorf("for the plugins %q", got)
	}
	for _, text := range []string{"", "{}", `{"signatures": []}`, `{"signatures": [` + strings.Repeat("{},", 8) + "{}]}", strings.Repeat(" ", 65<<10) + string(text)} {
		if _, err := artifact.ParseSignatures([]byte(text)); err == nil {
			t.Errorf("%.40q was accepted", text)
		}
	}
	if _, err := artifact.Sign(wasm, private, "a,b"); err == nil {
		t.Error("a name with a comma was accepted")
	}
}

func TestKeysOfOtherKindsAreRefused(t *testing.T) {
	const ecdsa = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEd7Sm/EHLwnMgHXDtTqN7SJr+Xkp0dxNBJOVw4I2SSYYKTl6JJQ4wvYV0VxHLZcKk" +
		"3IfCgBzYF6aLZDoyDBKwAw=="
	for _, text := range []string{"", "!", "AAAA", ecdsa, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if key, err := artifact.ParsePublicKey(text); err == nil {
			t.Errorf("%.40q is the key %x", text, key)
		}
	}
	for text, want := range map[string]string{
		"": "not a PEM file",
		"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n": "cosign sign",
		"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n":                                 "keygen",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n":                                       "not valid",
	} {
		if _, err := artifact.ParsePrivateKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// OpenSSL makes keys that we read, and verifies our signatures with keys that we make.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed; run: make test-deps")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("genpkey", "-algorithm", "ed25519", "-out", "a.key")
	run("pkey", "-in", "a.key", "-pubout", "-out", "a.pub")
	text, err := os.ReadFile(filepath.Join(dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := artifact.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := artifact.Sign(module(t, "pass"), private)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"payload": s.Payload, "signature": s.Signature} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("pkeyutl", "-verify", "-pubin", "-inkey", "a.pub", "-rawin", "-in", "payload", "-sigfile", "signature")
}

func FuzzSignatures(f *testing.F) {
	private, key := newKey(f, "ops")
	wasm := module(f, "pass")
	s, err := artifact.Sign(wasm, private, "redact")
	if err != nil {
		f.Fatal(err)
	}
	text, err := artifact.FormatSignatures([]artifact.Signature{*s})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"signatures": [{"payload": "e30=", "signature": "", "manifest": "e30="}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := artifact.ParseSignatures(text)
		if err != nil {
			return
		}
		for _, s := range list {
			s.Plugins()
		}
		// Only what the key has signed is accepted.
		if _, err := (artifact.Keys{key}).Verify(wasm, "redact", list); err == nil {
			for _, s := range list {
				if s.SignedBy(key.Public) {
					return
				}
			}
			t.Errorf("accepted: %s", text)
		}
	})
}

func FuzzManifest(f *testing.F) {
	wasm := module(f, "pass")
	text, config, err := artifact.Pack(wasm)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, config)
	f.Fuzz(func(t *testing.T, text, config []byte) {
		m, err := artifact.ParseManifest(text)
		if err != nil {
			return
		}
		if d := m.Module(); d.Size <= 0 || d.Size > artifact.MaxModule || !artifact.ValidDigest(d.Digest) {
			t.Errorf("module %+v", d)
		}
		_ = m.CheckConfig(config)
	})
}
