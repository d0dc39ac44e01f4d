package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// AWXExample is a Caddyfile of examples/awx with other addresses and paths, for StartRelay.
type AWXExample struct {
	// Name is the name of the file: Caddyfile or Caddyfile.pod.
	Name string
	// UWSGI is the address of the uWSGI socket, Redis the URL of the channel layer, Public the folder with the static
	// files of AWX.
	UWSGI, Redis, Public string
	// Sites are the addresses of the site; empty: {$SITE}.
	Sites string
	// Replace are further replacements.
	Replace map[string]string
}

// Text returns the Caddyfile. Only addresses and paths are replaced, and the file must contain each of them.
func (e AWXExample) Text(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), "examples", "awx", e.Name))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	replace := func(from, to string) {
		t.Helper()
		if !strings.Contains(config, from) {
			t.Fatalf("examples/awx/%s has no %q any more", e.Name, from)
		}
		config = strings.ReplaceAll(config, from, to)
	}
	for from, to := range e.Replace {
		replace(from, to)
	}
	if e.Sites == "" {
		e.Sites = "{$SITE}"
	}
	if e.Name == "Caddyfile" {
		replace("\nawx.example.com {", "\n"+e.Sites+" {")
		replace("origins https://awx.example.com", "# origins: the default")
	} else {
		replace("\nhttp://:8052 {", "\n"+e.Sites+" {")
	}
	replace("admin unix//run/edgerelay/admin.sock|0600", "admin {$ADMIN}")
	replace("127.0.0.1:8050", e.UWSGI)
	replace("unix:///var/run/redis/redis.sock", e.Redis)
	replace("/var/lib/awx/public", e.Public)
	return config
}
