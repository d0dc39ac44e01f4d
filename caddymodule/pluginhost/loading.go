package pluginhost

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/plugins"
)

// Loading limits the process that compiles a plugin's module. A module that needs more is rejected.
type Loading struct {
	// CPU is the processor time of a compilation, in whole seconds. Default: 5s.
	CPU caddy.Duration `json:"cpu,omitempty" caddyfile:"<duration>" min:"1"`
	// Memory is the memory of a compilation, in bytes, at least 128 MiB. Default: 256 MiB.
	Memory int64 `json:"memory,omitempty" caddyfile:"<size>"`
	// Time is how long a compilation may take. On a busy server it takes many times its processor time. Default: 2m.
	Time caddy.Duration `json:"time,omitempty" caddyfile:"<duration>" min:"1"`
}

// Limits checks the settings. A nil Loading is the default.
func (l *Loading) Limits() (limits plugins.Limits, err error) {
	if l != nil {
		limits = plugins.Limits{CPU: time.Duration(l.CPU), Memory: l.Memory, Time: time.Duration(l.Time)}
	}
	if limits, err = limits.WithDefaults(); err != nil {
		return limits, fmt.Errorf("edgerelay: plugin_loading: %w", err)
	}
	return limits, nil
}

// maxUncachedModule bounds modules that the server's own process compiles, in bytes. Modules of Go have 2 MiB.
// See docs/decisions/plugins.md#why-does-a-child-process-compile-modules
const maxUncachedModule = 4 << 20

var compilerArguments atomic.Pointer[[]string]

// EnableCompiler tells that this executable, started with the arguments and further ones, calls [plugins.RunCompiler]
// with the further ones. Modules are then compiled in such processes. A program that embeds Caddy without its command
// line does not call EnableCompiler, and compiles modules itself.
func EnableCompiler(args ...string) { compilerArguments.Store(&args) }

// executable returns the name of this executable. Under Linux, the name stays valid after an upgrade has replaced the
// file.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(self); err == nil {
			return self, nil
		}
	}
	return os.Executable()
}

// LoadingOptions returns the options by which a pipeline compiles modules: in a child process with limits, and with a
// cache in Caddy's data directory.
func LoadingOptions(limits func() plugins.Limits, log *slog.Logger) plugins.Options {
	o := plugins.Options{
		CacheDir: filepath.Join(caddy.AppDataDir(), "edgerelay", "plugins-cache"), Logger: log,
		MaxUncachedModule: maxUncachedModule,
	}
	args := compilerArguments.Load()
	if args == nil {
		return o
	}
	name, err := executable()
	if err != nil {
		log.Warn("plugins compiled in the server's process", "error", err)
		return o
	}
	o.Compiler = &plugins.ChildCompiler{Command: append([]string{name}, *args...), Limits: limits}
	return o
}

// TryOptions returns the options for a trial of a module outside a server: as in a server with the default limits, if
// this executable can compile modules in another process.
func TryOptions(log *slog.Logger) plugins.Options {
	if compilerArguments.Load() == nil {
		return plugins.Options{Logger: log}
	}
	o := LoadingOptions(nil, log)
	if p, err := plugins.New(o); err == nil {
		_ = p.Close()
	} else {
		o.CacheDir = ""
	}
	return o
}

// newPipeline returns an empty pipeline. Compiled modules are cached in Caddy's data directory if the directory is
// writable.
func newPipeline(limits func() plugins.Limits, log *slog.Logger) (*plugins.Pipeline, error) {
	o := LoadingOptions(limits, log)
	pipeline, err := plugins.New(o)
	if err == nil {
		return pipeline, nil
	}
	log.Warn("compiled plugins not cached on disk", "error", err,
		"effect", fmt.Sprintf("every start compiles the plugins again, in the server's process; "+
			"modules of more than %d MiB are rejected", maxUncachedModule>>20),
		"remedy", "make the directory writable for the server alone")
	o.CacheDir = ""
	return plugins.New(o)
}
