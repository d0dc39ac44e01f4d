// Command dist makes the files of a release: for each platform an archive with the binary and what goes with it, its
// bill of materials, and the checksums of all.
//
//	go run ./internal/dist [-o bin/dist] [linux/amd64 linux/arm64]
//
// The same commit built by the same Go gives the same bytes, wherever and whenever. Run it from the module's root.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flags are those of xcaddy's builds, and a profile that makes a connect a tenth cheaper, for a compilation of its own.
var flags = []string{"-trimpath", "-tags=nobadger,nomysql,nopgx", "-ldflags=-s -w", "-pgo=deploy/default.pgo"}

// contents are the files of the repository that an archive holds beside the binary.
var contents = []string{
	"CHANGELOG.md", "LICENSE", "README.md", "deploy/systemd/edgerelay.service",
	"examples/awx/Caddyfile", "examples/awx/Caddyfile.pod", "examples/awx/awx.yaml", "examples/awx/supervisord_web.conf", "examples/django/Caddyfile",
}

func main() {
	out := flag.String("o", filepath.Join("bin", "dist"), "the folder to write to")
	flag.Parse()
	platforms := flag.Args()
	if len(platforms) == 0 {
		platforms = []string{"linux/amd64", "linux/arm64"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := release(ctx, *out, platforms); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func release(ctx context.Context, out string, platforms []string) error {
	made, err := commitTime(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var names []string
	for _, platform := range platforms {
		goos, goarch, ok := strings.Cut(platform, "/")
		if !ok {
			return fmt.Errorf("%q is no platform; write it like linux/arm64", platform)
		}
		fmt.Printf("building for %s (minutes the first time)\n", platform)
		binary := filepath.Join(out, "caddy-"+goos+"-"+goarch)
		cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build"}, flags, []string{"-o", binary, "./caddymodule/cmd/caddy"})...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "GOWORK=off")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("building for %s: %w", platform, err)
		}
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return err
		}
		program, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		base := fmt.Sprintf("edgerelay_%s_%s_%s", version(info.Main.Version), goos, goarch)
		bill, err := sbom(info, sha256.Sum256(program), made)
		if err != nil {
			return err
		}
		entries := []file{{"caddy", program, 0o755}, {"sbom.cdx.json", bill, 0o644}}
		for _, name := range contents {
			text, err := os.ReadFile(filepath.FromSlash(name))
			if err != nil {
				return err
			}
			entries = append(entries, file{name, text, 0o644})
		}
		packed, err := archive(base, entries, made)
		if err != nil {
			return err
		}
		for name, content := range map[string][]byte{base + ".tar.gz": packed, base + ".cdx.json": bill} {
			if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
				return err
			}
			names = append(names, name)
		}
	}
	sums, err := checksums(out, names)
	if err != nil {
		return err
	}
	fmt.Printf("%s", sums)
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums, 0o644)
}

// version is a module's version as it stands in the names of files.
func version(v string) string {
	if v == "" || v == "(devel)" {
		return "devel"
	}
	return strings.ReplaceAll(strings.TrimPrefix(v, "v"), "+", "-")
}

// commitTime is when what is built was committed; SOURCE_DATE_EPOCH says otherwise.
func commitTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		b, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("when was this committed? Not a git repository: set SOURCE_DATE_EPOCH (%w)", err)
		}
		text = string(bytes.TrimSpace(b))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is Unix seconds: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// checksums is what `sha256sum --check` reads.
func checksums(dir string, names []string) ([]byte, error) {
	slices.Sort(names)
	var out bytes.Buffer
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(b), name)
	}
	return out.Bytes(), nil
}
