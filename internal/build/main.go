// Command build makes bin/caddy: the Caddy of xcaddy.json, with this working tree in place of the published module.
//
//	go run ./internal/build [-config xcaddy.json] [-o bin/caddy] [-pgo deploy/default.pgo] [-v]
//
// xcaddy itself reads no file; xcaddy.json is the JSON form of [xcaddy.Builder], and xcaddy's library builds. Run the
// command from the module's root.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/xcaddy"
)

func main() {
	config := flag.String("config", "xcaddy.json", "description of the build, JSON of xcaddy.Builder")
	output := flag.String("o", filepath.Join("bin", "caddy"), "path of the binary")
	profile := flag.String("pgo", "",
		"a CPU profile to optimize by: a connect costs a tenth less; all of Caddy is compiled again")
	verbose := flag.Bool("v", false, "show the output of xcaddy and the go command")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := build(ctx, *config, *output, *profile, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// build compiles the Caddy of the config file into output. A failed build keeps an earlier binary and prints the
// complete output of the tools.
func build(ctx context.Context, config, output, profile string, verbose bool) error {
	builder, err := load(config)
	if err != nil {
		return err
	}
	module, dir, err := mainModule(ctx)
	if err != nil {
		return err
	}
	builder.Replacements = append(builder.Replacements, xcaddy.NewReplace(module, dir))
	if builder.Env, err = environment(ctx, os.Environ()); err != nil {
		return err
	}
	builder.BuildFlags = buildFlags(module+"/caddymodule", commit(ctx))
	if profile != "" {
		builder.PgoProfile = profile
	}
	transcript := new(transcript)
	if verbose {
		transcript.live = os.Stderr
	}
	builder.OnStep = transcript.step

	fmt.Printf("building %s: Caddy %s with %s (minutes the first time, seconds after)\n",
		output, builder.CaddyVersion, pluginNames(builder.Plugins))
	start := time.Now()
	// Beside the target, so that a running Caddy keeps its file and the last step is a rename.
	fresh := output + ".new"
	defer os.Remove(fresh)
	if err := builder.Build(ctx, fresh); err != nil {
		if !verbose {
			os.Stderr.Write(transcript.all())
		}
		return fmt.Errorf("xcaddy could not build Caddy %s (its output is above; a module that could not be "+
			"downloaded? see `go env GOPROXY`): %w",
			builder.CaddyVersion, err)
	}
	if err := os.Rename(fresh, output); err != nil {
		return fmt.Errorf("putting the new binary in place: %w", err)
	}
	fmt.Printf("built %s in %s\n", output, time.Since(start).Round(time.Second))
	return nil
}

// mainModule returns the path and the folder of the current module.
func mainModule(ctx context.Context) (path, dir string, err error) {
	out, err := goCommand(ctx, "list", "-m", "-f", "{{.Path}}\n{{.Dir}}")
	if err != nil {
		return "", "", err
	}
	path, dir, ok := strings.Cut(out, "\n")
	if !ok || dir == "" {
		return "", "", fmt.Errorf("no module here: run it from the root of the repository")
	}
	return path, dir, nil
}

// goCommand runs the go command and returns its output, trimmed.
func goCommand(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

func pluginNames(plugins []xcaddy.Dependency) string {
	names := make([]string, len(plugins))
	for i, p := range plugins {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// transcript keeps the output of a build for error reports.
type transcript struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	live io.Writer // receives the output as well, unless nil
}

func (t *transcript) step(event *xcaddy.StepEvent) error {
	_, err := io.Copy(t, event.Output)
	return err
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live != nil {
		if _, err := t.live.Write(p); err != nil {
			return 0, err
		}
	}
	return t.buf.Write(p)
}

func (t *transcript) all() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf.Bytes())
}
