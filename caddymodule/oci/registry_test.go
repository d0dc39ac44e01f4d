package oci_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

func module(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// start starts a registry, and returns it with a reference to a tag.
func start(t *testing.T) (*registry.Memory, oci.Reference) {
	t.Helper()
	g := registry.New()
	return g, reference(t, "oci://"+g.Start(t)+"/plugins/redact:2.0")
}

func reference(t testing.TB, text string) oci.Reference {
	t.Helper()
	ref, err := oci.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPushAndPull(t *testing.T) {
	g, ref := start(t)
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
	if err != nil || !artifact.ValidDigest(pushed.Digest) || pushed.Tag != "2.0" {
		t.Fatalf("pushed %v, %v", pushed, err)
	}
	keys := artifact.Keys{{Name: "ops", Public: public}}
	byDigest := pushed
	byDigest.Tag = ""
	for _, from := range []oci.Reference{ref, pushed, byDigest} {
		a, err := new(oci.Registry).Pull(ctx, from)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Module, wasm) || a.Ref.Digest != pushed.Digest || a.SignaturesErr != nil {
			t.Errorf("pulled %d bytes of %v, %v", len(a.Module), a.Ref, a.SignaturesErr)
		}
		if _, err := keys.Verify(a.Module, "redact", a.Signatures); err != nil {
			t.Error(err)
		}
	}
	// The same again sends no blob and no further signature, and a second signature is added.
	g.Requests = nil
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	second, err := artifact.Sign(wasm, other, "redact")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(oci.Registry).Push(ctx, ref, wasm, []artifact.Signature{*s, *second}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.Join(g.Requests, "\n"), "POST"); n != 2 { // the second payload and the config
		t.Errorf("%d uploads: %q", n, g.Requests)
	}
	a, err := new(oci.Registry).Pull(ctx, ref)
	if err != nil || len(a.Signatures) != 2 {
		t.Errorf("pulled %+v, %v", a, err)
	}
	if _, err := new(oci.Registry).Push(ctx, ref, module(t, "filter"), []artifact.Signature{*s}); err == nil ||
		!strings.Contains(err.Error(), "for another module") {
		t.Errorf("a push with the signature of another module: %v", err)
	}
}

// fault is a registry that misbehaves.
type fault struct {
	name, want string
	// change changes the registry after a push of the module to the tag 2.0.
	change func(g *registry.Memory, wasm []byte)
}

// on returns a change by which a request of the path with part gets another answer.
func on(part string, answer func(w http.ResponseWriter, r *http.Request)) func(*registry.Memory, []byte) {
	return func(g *registry.Memory, _ []byte) {
		g.Before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			answer(w, r)
			return true
		}
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// remake replaces the manifest of the tag.
func remake(mediaType string, f func(m string) string) func(*registry.Memory, []byte) {
	return func(g *registry.Memory, _ []byte) {
		g.PutManifest("2.0", mediaType, []byte(f(string(g.Manifests["2.0"]))))
	}
}

var faults = []fault{
	{"login needed", "docker login 127.0.0.1:", on("/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})},
	{"no access", "ask the registry's administrator", on("/manifests/", status(http.StatusForbidden))},
	{"no module", "check the repository and the tag or digest", on("/manifests/", status(http.StatusNotFound))},
	{"no blob", "check the repository and the tag or digest", on("/blobs/", status(http.StatusNotFound))},
	{"limit", "limits requests", on("/manifests/", status(http.StatusTooManyRequests))},
	{"failure", "the registry fails", on("/manifests/", status(http.StatusNotImplemented))},
	{"redirects", "redirects more than 5 times", on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	})},
	{"changed module", "not what the digest names", func(g *registry.Memory, wasm []byte) {
		changed := bytes.Clone(wasm)
		changed[len(changed)-1] ^= 1
		g.Blobs[artifact.Digest(wasm)] = changed
	}},
	{"truncated module", "not what the digest names", func(g *registry.Memory, wasm []byte) {
		on("/blobs/"+artifact.Digest(wasm), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(wasm[:len(wasm)/2])
			w.(http.Flusher).Flush() // without a length
		})(g, wasm)
	}},
	{"longer module", "not what the digest names", func(g *registry.Memory, wasm []byte) {
		on("/blobs/"+artifact.Digest(wasm), func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(wasm)
			w.(http.Flusher).Flush()
			_, _ = w.Write(wasm)
		})(g, wasm)
	}},
	{"changed manifest", "not what the digest names", on("/manifests/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", artifact.Digest(nil))
		w.Header().Set("Content-Type", artifact.ManifestType)
		w.Header().Set("Content-Length", "2")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "{}")
		}
	})},
	{"oversized module", "modules of 1 to 16777216 bytes", remake(artifact.ManifestType, func(m string) string {
		return strings.ReplaceAll(m, `"size":`, `"size":16777217,"was":`)
	})},
	{"oversized manifest", "more than 16384", remake(artifact.ManifestType, func(m string) string {
		return strings.Repeat(" ", 16<<10) + m
	})},
	{"index", "name one of them by its digest", remake(artifact.IndexType, func(string) string { return `{}` })},
	{"image", "application/vnd.cncf.helm", remake(artifact.ManifestType, func(m string) string {
		return strings.ReplaceAll(m, artifact.ConfigType, "application/vnd.cncf.helm")
	})},
	{"component", "not components", func(g *registry.Memory, _ []byte) {
		config := `{"architecture":"wasm","os":"wasip2"}`
		g.Blobs[artifact.Digest([]byte(config))] = []byte(config)
		remake(artifact.ManifestType, func(m string) string {
			at := strings.Index(m, `"layers"`)
			return `{"schemaVersion":2,"config":{"mediaType":"` + artifact.ConfigType + `","digest":"` +
				artifact.Digest([]byte(config)) + `","size":` + strconv.Itoa(len(config)) + `},` + m[at:]
		})(g, nil)
	}},
	{"no manifest", "is not valid", remake(artifact.ManifestType, func(string) string { return `[]` })},
}

func TestFaultyRegistries(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			g, ref := start(t)
			wasm := module(t, "pass")
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if _, err := new(oci.Registry).Push(ctx, ref, wasm, nil); err != nil {
				t.Fatal(err)
			}
			c.change(g, wasm)
			a, err := new(oci.Registry).Pull(ctx, ref)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("pulled %v: %v, want %q", a != nil, err, c.want)
			}
			if failed := new(oci.Error); !errors.As(err, &failed) || !strings.HasPrefix(err.Error(), "pull oci://127.0.0.1:") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A tag that moves between two answers does not mix two modules.
func TestDigestsArePinned(t *testing.T) {
	g, ref := start(t)
	ctx := context.Background()
	pushed, err := new(oci.Registry).Push(ctx, ref, module(t, "pass"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(oci.Registry).Push(ctx, ref, module(t, "filter"), nil); err != nil {
		t.Fatal(err)
	}
	a, err := new(oci.Registry).Pull(ctx, pushed)
	if err != nil || !bytes.Equal(a.Module, module(t, "pass")) {
		t.Errorf("pulled %v, %v", a, err)
	}
	g.Manifests[pushed.Digest] = g.Manifests["2.0"]
	if _, err := new(oci.Registry).Pull(ctx, pushed); err == nil {
		t.Error("another module was pulled by the digest")
	}
	ref.Digest = pushed.Digest
	if _, err := new(oci.Registry).Push(ctx, ref, module(t, "filter"), nil); err == nil || !strings.Contains(err.Error(), "push it to a tag") {
		t.Errorf("a push to another digest: %v", err)
	}
}

// Credentials go to the registry, and not to the server to which it redirects.
func TestCredentials(t *testing.T) {
	g, ref := start(t)
	const want = "Basic YWxpY2U6c2VjcmV0" // alice:secret
	var leaked []string
	blobs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "" {
			leaked = append(leaked, got)
		}
		registry.Serve(w, r, g.Blobs[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]], "application/octet-stream")
	}))
	defer blobs.Close()
	ctx := context.Background()
	if _, err := new(oci.Registry).Push(ctx, ref, module(t, "pass"), nil); err != nil {
		t.Fatal(err)
	}
	g.Before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("Authorization") != want:
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet:
			http.Redirect(w, r, blobs.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	if _, err := (&oci.Registry{Username: "alice", Password: "secret"}).Pull(ctx, ref); err != nil {
		t.Error(err)
	}
	if _, err := (&oci.Registry{Username: "alice", Password: "wrong"}).Pull(ctx, ref); err == nil || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("with a wrong password: %v", err)
	}
	if _, err := (&oci.Registry{Username: "alice"}).Pull(ctx, ref); err == nil || !strings.Contains(err.Error(), "incomplete") {
		t.Errorf("without a password: %v", err)
	}
	config := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	if err := os.WriteFile(config, []byte(`{"auths": {"`+ref.Registry+`": {"auth": "YWxpY2U6c2VjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := new(oci.Registry).Pull(ctx, ref); err != nil {
		t.Errorf("with Docker's configuration: %v", err)
	}
	if err := os.WriteFile(config, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := new(oci.Registry).Pull(ctx, ref); err == nil || !strings.Contains(err.Error(), "Docker's configuration") {
		t.Errorf("with a damaged configuration of Docker: %v", err)
	}
	t.Setenv(oci.EnvUsername, "alice")
	t.Setenv(oci.EnvPassword, "secret")
	if _, err := new(oci.Registry).Pull(ctx, ref); err != nil {
		t.Errorf("with credentials in the environment: %v", err)
	}
	if len(leaked) > 0 {
		t.Errorf("another server got %q", leaked)
	}
}

func TestTLS(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	g := registry.New()
	server := httptest.NewTLSServer(g)
	defer server.Close()
	server.Config.ErrorLog = nil
	ref := reference(t, "oci://"+server.Listener.Addr().String()+"/plugins/redact:2.0")
	withTLS := false
	r := &oci.Registry{PlainHTTP: &withTLS}
	ctx := context.Background()
	if _, err := r.Pull(ctx, ref); err == nil || !strings.Contains(err.Error(), "check the registry's certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	r.Transport = server.Client().Transport
	if _, err := r.Push(ctx, ref, module(t, "pass"), nil); err != nil {
		t.Fatal(err)
	}
	g.Before = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		return true
	}
	if _, err := r.Pull(ctx, ref); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("a redirect without TLS: %v", err)
	}
	_, plain := start(t)
	if _, err := (&oci.Registry{PlainHTTP: &withTLS}).Pull(ctx, plain); err == nil || !strings.Contains(err.Error(), "--plain-http") {
		t.Errorf("a registry without TLS: %v", err)
	}
}

// Bad signatures in a registry do not keep a module from being pulled. The relay decides.
func TestBadSignaturesAreLeftOut(t *testing.T) {
	g, ref := start(t)
	ctx := context.Background()
	wasm := module(t, "pass")
	pushed, err := new(oci.Registry).Push(ctx, ref, wasm, nil)
	if err != nil {
		t.Fatal(err)
	}
	tag := strings.Replace(pushed.Digest, ":", "-", 1) + ".sig"
	const layer = `{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": "`
	for _, text := range []string{
		`{`, `{"layers": [` + layer + `x", "size": 1}]}`, `{"layers": [` + layer + artifact.Digest(nil) + `", "size": 99999}]}`,
		`{"layers": [` + layer + artifact.Digest(nil) + `", "size": 1, "annotations": {"dev.cosignproject.cosign/signature": "?"}}]}`,
		`{"layers": [` + layer + artifact.Digest(nil) + `", "size": 1}]}`, strings.Repeat(" ", 256<<10) + `{}`,
	} {
		g.PutManifest(tag, artifact.ManifestType, []byte(text))
		a, err := new(oci.Registry).Pull(ctx, ref)
		if err != nil || a.SignaturesErr == nil || len(a.Signatures) > 0 {
			t.Errorf("%.80s: %v, %v", text, a, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for text, want := range map[string]string{
		"oci://r.example.com/a/b:1":               "oci://r.example.com/a/b:1",
		"oci://r.example.com/a":                   "oci://r.example.com/a:latest",
		"oci://localhost:5000/a@" + digest:        "oci://localhost:5000/a@" + digest,
		"oci://localhost:5000/a:1.0@" + digest:    "oci://localhost:5000/a:1.0@" + digest,
		"https://r.example.com/a":                 "",
		"oci://a":                                 "",
		"oci://r.example.com/A":                   "",
		"oci://r.example.com/a@sha256:01":         "",
		"oci://r.example.com/a@":                  "",
		"oci://r.example.com/a:b c":               "",
		"oci://user:password@r.example.com/a":     "",
		"oci://r.example.com/a@md5:" + digest[7:]: "",
	} {
		ref, err := oci.ParseReference(text)
		if want == "" && err == nil || want != "" && (err != nil || ref.String() != want) {
			t.Errorf("%s: %s, %v", text, ref, err)
		}
	}
}
