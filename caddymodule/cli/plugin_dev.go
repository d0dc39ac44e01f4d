package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// pluginDev is the command plugin dev.
type pluginDev struct {
	pluginSettings
	dir     string
	port    int
	noOpen  bool
	noTests bool
	w       io.Writer

	// choosePort returns a free port.
	choosePort func() (int, error)

	work   string // a temporary folder; the module that runs is in it
	module string
	admin  string
	site   string
	relay  *devRelay // nil while none runs
	built  bool      // whether a module has been loaded
}

func pluginDevCommand() *cobra.Command {
	o := pluginDev{w: os.Stdout, choosePort: freePort}
	cmd := &cobra.Command{
		Use:   "dev <directory>",
		Short: "Build, test and load a plugin on every change",
		Long: "Watches the sources of a plugin that 'plugin new' has created. After each change, the command runs\n" +
			"build.sh, the golden samples and recordings (*.ndjson) and the unit tests (test.sh, go test, cargo test or\n" +
			"npm test), and loads the module into a relay of its own, with the directory's Caddyfile. If the build, a\n" +
			"sample or a test fails, the module before keeps running. The command opens the page, and shows the plugin's\n" +
			"log. Ctrl-C ends everything.",
		Example: "  caddy edgerelay plugin new --kind function --language go my-room\n" +
			"  caddy edgerelay plugin dev my-room",
		Args: cobra.ExactArgs(1),
		RunE: runE(func(ctx context.Context, args []string) error {
			ctx, stop := untilSignal(ctx)
			defer stop()
			o.dir = args[0]
			return o.run(ctx)
		}),
	}
	o.addFlags(cmd)
	cmd.Flags().IntVar(&o.port, "port", 0, "port of the page; default: a free one")
	cmd.Flags().BoolVar(&o.noTests, "no-tests", false, "do not run the unit tests")
	cmd.Flags().BoolVar(&o.noOpen, "no-open", false, "do not open the page in the browser")
	return cmd
}

// watchInterval is the time between two looks at the sources.
const watchInterval = 200 * time.Millisecond

// run builds and loads until ctx ends.
func (o *pluginDev) run(ctx context.Context) error {
	defer func() { _ = os.RemoveAll(o.work) }()
	if err := o.prepare(); err != nil {
		return err
	}
	defer func() { o.relay.stop() }()
	var seen devSources
	for ctx.Err() == nil {
		now, err := readSources(o.dir)
		switch {
		case err != nil:
			return err
		case now != seen:
			before := seen
			seen = now
			if before.caddyfile != now.caddyfile && o.relay != nil {
				o.relay.stop() // the next load starts it with the new Caddyfile
				o.relay = nil
			}
			o.update(ctx)
		}
		select {
		case <-ctx.Done():
		case <-o.relay.ended():
			fmt.Fprintln(o.w, "✗ the relay has ended; change a file to start it again")
			o.relay = nil
		case <-time.After(watchInterval):
		}
	}
	return nil
}

// prepare checks the directory, and chooses ports.
func (o *pluginDev) prepare() (err error) {
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	for _, name := range []string{"build.sh", "Caddyfile"} {
		if _, err := os.Stat(filepath.Join(o.dir, name)); err != nil {
			return fmt.Errorf("%s has no %s; create the project with 'caddy edgerelay plugin new'", o.dir, name)
		}
	}
	text, err := os.ReadFile(filepath.Join(o.dir, "Caddyfile"))
	if err != nil {
		return err
	}
	for _, variable := range []string{"{$DEV_ADMIN:", "{$DEV_PLUGIN:", "{$DEV_SITE:"} {
		if !bytes.Contains(text, []byte(variable)) {
			return fmt.Errorf("the Caddyfile lacks %s…}; write it where the Caddyfile of 'plugin new' has it", variable)
		}
	}
	if o.work, err = os.MkdirTemp("", "edgerelay-dev-"); err != nil {
		return err
	}
	o.module = filepath.Join(o.work, "plugin.wasm")
	admin, err := o.choosePort()
	if err == nil && o.port == 0 {
		o.port, err = o.choosePort()
	}
	if err != nil {
		return fmt.Errorf("choosing a port: %w", err)
	}
	o.admin = fmt.Sprintf("127.0.0.1:%d", admin)
	o.site = fmt.Sprintf("http://localhost:%d", o.port)
	return nil
}

// update builds the plugin, runs its samples and tests, and loads it.
func (o *pluginDev) update(ctx context.Context) {
	begin := time.Now()
	steps := []struct {
		name string
		run  func(ctx context.Context) error
	}{{"build", o.build}, {"samples", o.samples}, {"tests", o.tests}, {"load", o.load}}
	for _, step := range steps {
		err := step.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			fmt.Fprintf(o.w, "✗ %s: %s\n", step.name, strings.TrimSpace(printableLines(err.Error())))
			if o.built {
				fmt.Fprintln(o.w, "  the module before keeps running")
			}
			return
		}
	}
	fmt.Fprintf(o.w, "✓ loaded after %.1f s: %s\n", time.Since(begin).Seconds(), o.site)
	if !o.built && !o.noOpen {
		openBrowser(o.site)
	}
	o.built = true
}

// build runs the project's build script.
func (o *pluginDev) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "sh", "build.sh")
	cmd.Dir = o.dir
	endWithGroup(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("build.sh: %w\n%s", err, out)
	}
	return nil
}

// samples runs the golden samples. They run with the settings of the command's flags.
func (o *pluginDev) samples(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(o.dir, "*.ndjson"))
	if err != nil || len(files) == 0 {
		return err
	}
	var out bytes.Buffer
	test := pluginTestOptions{pluginSettings: o.pluginSettings}
	if err := test.runTo(ctx, &out, &out, filepath.Join(o.dir, "plugin.wasm"), files); err != nil {
		return fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		if strings.Contains(line, " samples, ") || strings.HasPrefix(line, "no sample of ") {
			fmt.Fprintf(o.w, "  %s\n", printable(line))
		}
	}
	return nil
}

// loadTimeout bounds the time until the relay has a new module. The relay compiles the module first, for as long as its
// Caddyfile lets it.
const loadTimeout = plugins.MaxCompileTime + 30*time.Second

// load puts the module where the relay finds it, starts the relay if none runs, and waits for the module.
func (o *pluginDev) load(ctx context.Context) error {
	wasm, err := os.ReadFile(filepath.Join(o.dir, "plugin.wasm"))
	if err != nil {
		return err
	}
	part := o.module + ".part"
	if err := os.WriteFile(part, wasm, 0o600); err != nil {
		return err
	}
	if err := os.Rename(part, o.module); err != nil { // at once, since the relay watches the file
		return err
	}
	if o.relay == nil {
		if o.relay, err = o.start(); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(wasm)
	return o.await(ctx, hex.EncodeToString(sum[:]))
}

// listens reports whether the site takes connections: a relay runs its plugins before.
func (o *pluginDev) listens() bool {
	c, err := net.DialTimeout("tcp", fmt.Sprint("localhost:", o.port), time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// await waits until the relay runs the module and its site takes connections.
func (o *pluginDev) await(ctx context.Context, hash string) error {
	deadline := time.NewTimer(loadTimeout)
	defer deadline.Stop()
	for {
		var list []pluginhost.Status
		err := getAdmin(ctx, o.admin, "/edgerelay/plugins", &list)
		for i := range list {
			switch {
			case strings.HasPrefix(hash, list[i].Hash) && list[i].Hash != "" && o.listens():
				return nil
			case list[i].Refused != "" && list[i].File == o.module:
				return errors.New(list[i].Refused)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.relay.ended():
			o.relay = nil
			return errors.New("the relay has ended; its log is above")
		case <-deadline.C:
			if err == nil {
				err = errors.New("the relay has not loaded the module")
			}
			return err
		case <-time.After(watchInterval / 4):
		}
	}
}

// openBrowser opens a page in the user's browser, if there is one.
func openBrowser(page string) {
	command := []string{"xdg-open", page}
	switch runtime.GOOS {
	case "darwin":
		command[0] = "open"
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", page}
	}
	cmd := exec.Command(command[0], command[1:]...)
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}
