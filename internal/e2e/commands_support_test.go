package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// secretSite has a secret in every setting that takes one, and in the places of Caddy and of URLs that do.
const secretSite = `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis %[1]s {
			symmetric_encryption_keys s3cret-encryption-01 {file.%[2]s}
		}
		auth http http://127.0.0.1:%[3]d/auth?token=s3cret-query-04 {
			key s3cret-auth-key-05-which-is-long-enough
		}
		history_key s3cret-history-06
		backplane {
			secret s3cret-plane-07 s3cret-plane-08
		}
		plugin quiet %[4]s {
			groups none-*
			config "{\"token\": \"s3cret-config-09\", \"words\": [\"s3cret-words-00010\"], \"hook\": \"http://x/{file.%[2]s}\"}"
		}
	}
}
{$SITE} {
	edgerelay {
		route /ws/x/ {
			groups x
			auth jwt {
				key s3cret-jwt-11-which-is-long-enough-for-hs256
			}
			presence {
				webhook http://127.0.0.1:%[3]d/?token=s3cret-hook-12 {
					key s3cret-presence-13-which-is-long-enough
				}
			}
		}
	}
	edgerelay_publish {
		key shop s3cret-shop-14-which-is-long-enough {
			groups shop-*
			previous s3cret-shop-15-which-is-long-enough
		}
	}
	header X-Api-Key s3cret-header-16
	basic_auth /private/* {
		s3cret-user-17 $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	reverse_proxy /app/* 127.0.0.1:%[3]d {
		header_up Authorization "Bearer s3cret-bearer-18"
		transport uwsgi {
			env TOKEN s3cret-env-19
		}
	}
	respond "s3cret-body-20" 404
}
`

// unpack returns the files of a bundle by name.
func unpack(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(z); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(header.Name, "edgerelay-support/")] = string(content)
	}
}

// No secret of a configuration full of secrets is in the bundle, in whatever form, and neither is that of a file that
// the configuration names. What contains one, such as the log after an operator has pasted a secret, is left out and
// named.
func TestSupportBundleHasNoSecrets(t *testing.T) {
	t.Parallel()
	redis, dir := peers.StartRedis(t), t.TempDir()
	secretFile := filepath.Join(dir, "key")
	if err := os.WriteFile(secretFile, []byte("s3cret-file-00\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wasm := filepath.Join(peers.Root(t), "examples", "plugins", "quiet", "plugin.wasm")
	url := strings.Replace(redis.URL, "redis://", "redis://default:s3cret-redis-02@", 1)
	r := peers.StartRelay(t, fmt.Sprintf(secretSite, url, secretFile, testkit.FreePort(t), wasm))
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	for _, user := range []string{"s3cret-file-00", "s3cret-plane-07", "harmless"} { // each is a line of the log
		if out := command(t, r, "connection", "close", "--user", user, address); out.code != 0 {
			t.Fatalf("close: %+v", out)
		}
	}
	bundle := filepath.Join(dir, "bundle.tar.gz")
	out := command(t, r, "support-bundle", "--output", bundle, "--json", address)
	var report struct {
		File    string
		Bytes   int64
		Files   []string
		LeftOut []struct{ File, Reason string } `json:"left_out"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &report); err != nil || out.code != 0 {
		t.Fatalf("%v: %+v", err, out)
	}
	info, err := os.Stat(bundle)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != report.Bytes {
		t.Errorf("the archive: %v, %v, reported %d bytes", info, err, report.Bytes)
	}
	files := unpack(t, bundle)
	for _, want := range []string{
		"README.txt", "config.json", "status.json", "health.json", "groups.json", "peers.json", "plugins.json",
		"plugin-nodes.json", "logs.ndjson", "metrics.txt", "goroutines.txt", "doctor.json", "versions.json", "limits.json",
	} {
		if files[want] == "" || !slices.Contains(report.Files, want) {
			t.Errorf("%s is missing or empty; left out: %+v", want, report.LeftOut)
		}
		if want != "README.txt" && !strings.Contains(files["README.txt"], want) {
			t.Errorf("the README does not explain %s", want)
		}
	}
	for name, content := range files {
		for n, line := range strings.Split(content, "\n") {
			encoded := base64.RawStdEncoding.EncodeToString([]byte("s3cret-file-00"))
			if strings.Contains(line, "s3cret") || strings.Contains(line, "$2a$14") || strings.Contains(line, encoded) {
				t.Errorf("%s:%d contains a secret: %.300s", name, n+1, line)
			}
		}
	}
	if !strings.Contains(files["logs.ndjson"], "harmless") ||
		!slices.ContainsFunc(report.LeftOut, func(l struct{ File, Reason string }) bool {
			return l.File == "1 line of logs.ndjson"
		}) {
		t.Errorf("the log: %+v\n%s", report.LeftOut, files["logs.ndjson"])
	}
	if !strings.Contains(files["config.json"], "{file."+secretFile+"}") || !strings.Contains(files["metrics.txt"], "edgerelay_") {
		t.Errorf("the placeholder is missing in the configuration, or metrics are:\n%s", files["config.json"])
	}

	// A name of a group that is a secret takes the list of groups out of the archive.
	tailOf(t, r, "s3cret-file-00")
	again := filepath.Join(dir, "again.tar.gz")
	if out := command(t, r, "support-bundle", "-o", again, address); out.code != 0 ||
		!strings.Contains(out.stdout, "left out: groups.json") || unpack(t, again)["groups.json"] != "" {
		t.Errorf("with a secret in the groups: %+v", out)
	}
	if out := command(t, r, "support-bundle", "-o", again, address); out.code != 1 || !strings.Contains(out.stderr, "exists") {
		t.Errorf("an existing file: %+v", out)
	}
	if err := os.Remove(secretFile); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(dir, "last.tar.gz")
	if out := command(t, r, "support-bundle", "-o", last, address); out.code != 1 || !strings.Contains(out.stderr, "cannot be read") {
		t.Errorf("without the file of a secret: %+v", out)
	}
	if _, err := os.Stat(last); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an archive was written although secrets could not be searched: %v", err)
	}
}

// tailOf follows a group with a tail, so that the node lists it.
func tailOf(t *testing.T, r *peers.Relay, group string) {
	t.Helper()
	address := strings.TrimPrefix(r.Admin, "http://")
	tail := r.Command("edgerelay", "tail", group, "--address", address)
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tail.Process.Kill(); _ = tail.Wait() })
	testkit.Eventually(t, "the tail stands", func() error {
		if out := command(t, r, "group", "list", "--address", address); !strings.Contains(out.stdout, group) {
			return fmt.Errorf("%+v", out)
		}
		return nil
	})
}
