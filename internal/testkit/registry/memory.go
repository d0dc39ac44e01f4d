// Package registry has OCI registries for tests: one in memory, which can misbehave, and Debian's docker-registry.
package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Memory is a registry in memory, as the OCI distribution specification describes it. A test that changes the fields
// does so while no request is in progress.
type Memory struct {
	mu sync.Mutex
	// Blobs has the blobs by digest, and Manifests the manifests by tag and by digest.
	Blobs, Manifests map[string][]byte
	// Requests are the methods and paths of all requests.
	Requests []string
	// Before answers a request in place of the registry, if it returns true.
	Before func(w http.ResponseWriter, r *http.Request) bool

	types map[string]string // of manifests
}

// New returns an empty registry.
func New() *Memory {
	return &Memory{Blobs: map[string][]byte{}, Manifests: map[string][]byte{}, types: map[string]string{}}
}

// Start serves the registry until the test ends, and returns its host and port. The test sees no credentials of the
// user.
func (g *Memory) Start(t testing.TB) (address string) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// ServeHTTP implements [http.Handler].
func (g *Memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Requests = append(g.Requests, r.Method+" "+r.URL.Path)
	if g.Before != nil && g.Before(w, r) {
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case strings.Contains(r.URL.Path, "/blobs/uploads/"):
		g.upload(w, r)
	case strings.Contains(r.URL.Path, "/blobs/"):
		Serve(w, r, g.Blobs[name], "application/octet-stream")
	case strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut:
		b, _ := io.ReadAll(r.Body)
		g.PutManifest(name, r.Header.Get("Content-Type"), b)
		w.WriteHeader(http.StatusCreated)
	case strings.Contains(r.URL.Path, "/manifests/"):
		Serve(w, r, g.Manifests[name], g.types[name])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (g *Memory) upload(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		w.Header().Set("Location", r.URL.Path+"upload")
		w.WriteHeader(http.StatusAccepted)
		return
	}
	b, _ := io.ReadAll(r.Body)
	g.Blobs[r.URL.Query().Get("digest")] = b
	w.WriteHeader(http.StatusCreated)
}

// PutManifest stores a manifest.
func (g *Memory) PutManifest(name, mediaType string, b []byte) {
	for _, key := range []string{name, digest(b)} {
		g.Manifests[key], g.types[key] = b, mediaType
	}
}

// Serve answers a request with content; nil is 404.
func Serve(w http.ResponseWriter, r *http.Request, b []byte, mediaType string) {
	if b == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Docker-Content-Digest", digest(b))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
