package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// image is the last stage of the Dockerfile, built without Docker.
type image struct {
	root                    string
	uid, gid                uint32
	env                     []string
	entrypoint, cmd, health []string
}

var quoted = regexp.MustCompile(`"([^"]*)"`)

// words returns the words of an instruction in its exec form.
func words(args string) (list []string) {
	_, args, _ = strings.Cut(args, "[")
	for _, m := range quoted.FindAllStringSubmatch(args, -1) {
		list = append(list, m[1])
	}
	return list
}

// buildImage runs the Dockerfile's instructions: the script that lays out the file system, with a binary that exists,
// and the settings of the last stage.
func buildImage(t *testing.T, binary string) image {
	t.Helper()
	i := image{root: t.TempDir()}
	if err := os.Chmod(i.root, 0o755); err != nil { // for the image's user
		t.Fatal(err)
	}
	for path := i.root; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	laidOut := false
	for _, instruction := range instructions(t, filepath.Join("..", "..", "Dockerfile")) {
		name, args := instruction[0], instruction[1]
		switch name {
		case "RUN":
			script, isScript := strings.CutSuffix(args, " /tmp/caddy /out")
			if !isScript {
				continue // the compiler's
			}
			cmd := exec.Command("sh", "-c", `exec "$0" "$1" "$2"`, filepath.Join("..", "..", script), binary, i.root)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", args, err, out)
			}
			laidOut = true
		case "USER":
			if _, err := fmt.Sscanf(args, "%d:%d", &i.uid, &i.gid); err != nil {
				t.Fatalf("USER %s: %v", args, err)
			}
		case "ENV":
			i.env = strings.Fields(args)
		case "ENTRYPOINT":
			i.entrypoint = words(args)
		case "CMD":
			i.cmd = words(args)
		case "HEALTHCHECK":
			i.health = words(args)
		}
	}
	if !laidOut || i.uid == 0 || len(i.entrypoint) == 0 || len(i.health) == 0 {
		t.Fatalf("the Dockerfile has no layout, user, command or health check: %+v", i)
	}
	return i
}

// command runs a program in the image, as its user and with its environment only.
func (i image) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = "/", i.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: i.root, Credential: &syscall.Credential{Uid: i.uid, Gid: i.gid}}
	return cmd
}

// The image needs nothing but its own files and an unprivileged user: it answers, its health check passes while it runs
// and fails when it does not, and it stops at SIGTERM.
func TestImage(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "edgerelay") // as releases build it: xcaddy's program knows no short commands
	cmd := exec.Command("go", "build", "-o", binary, "./caddymodule/cmd/caddy")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i := buildImage(t, binary)
	checkLicenses(t, filepath.Join(i.root, "usr", "share", "doc", "edgerelay"))
	port := testkit.FreePort(t)
	caddyfile := filepath.Join(i.root, "etc", "edgerelay", "Caddyfile")
	text, err := os.ReadFile(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	mounted := strings.ReplaceAll(string(text), "8080", fmt.Sprint(port))
	if err := os.WriteFile(caddyfile, []byte(mounted), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := i.command(t.Context(), i.health...).CombinedOutput(); err == nil {
		t.Errorf("the health check passes although nothing runs: %s", out)
	}
	checkDemo(t, i)
	server := i.command(t.Context(), append(append([]string{}, i.entrypoint...), i.cmd...)...)
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	testkit.Eventually(t, "the image answers /health", func() bool {
		resp, err := http.Get(url + "/health")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	resp, err := http.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "/etc/edgerelay/Caddyfile") {
		t.Errorf("/ answers %d, %q (%v)", resp.StatusCode, body, err)
	}
	if out, err := i.command(t.Context(), i.health...).CombinedOutput(); err != nil {
		t.Errorf("the health check fails: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"/usr/bin/edgerelay", "status"}, {"/usr/bin/caddy", "edgerelay", "status"}} {
		if out, err := i.command(t.Context(), args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "edgerelay     ok, version ") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("stopped with %v\n%s", err, log.String())
	}
}

// checkLicenses checks that a folder has the terms of the product and of all that is in its binary.
func checkLicenses(t *testing.T, dir string) {
	t.Helper()
	for name, want := range map[string]string{
		"LICENSE": "Apache License", "NOTICE": "The edgerelay authors",
		"THIRD_PARTY_LICENSES": "\ngithub.com/caddyserver/caddy/v2 v2.",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s (%v) has no %q", name, err, want)
		}
	}
}

// The image runs the demo without a configuration, as the start message and docs/install.md say.
func checkDemo(t *testing.T, i image) {
	t.Helper()
	port := testkit.FreePort(t)
	args := append(append([]string{}, i.entrypoint...), "edgerelay", "demo", "--port", fmt.Sprint(port))
	demo := i.command(t.Context(), args...)
	var log strings.Builder
	demo.Stdout, demo.Stderr = &log, &log
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the demo's plugin runs", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/demo/about", port))
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), `{"name":"redact","groups":["*"],"on":true}`)
	})
	if err := demo.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo stopped with %v\n%s", err, log.String())
	}
}
