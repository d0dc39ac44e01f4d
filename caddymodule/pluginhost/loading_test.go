package pluginhost

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/plugins"
)

func TestLoadingSettings(t *testing.T) {
	for _, c := range []struct {
		name, block string
		want        plugins.Limits
		wantErr     string
	}{
		{"defaults", "{\n}", plugins.Limits{CPU: 5 * time.Second, Memory: 256 << 20, Time: 2 * time.Minute}, ""},
		{
			"all", "{\ncpu 10s\nmemory 512MiB\ntime 3m\n}",
			plugins.Limits{CPU: 10 * time.Second, Memory: 512 << 20, Time: 3 * time.Minute},
			"",
		},
		{"fractions", "{\ncpu 1500ms\n}", plugins.Limits{}, "whole seconds"},
		{"too little memory", "{\nmemory 64MiB\n}", plugins.Limits{}, "plugin_loading: invalid memory"},
		{"too long", "{\ntime 1h\n}", plugins.Limits{}, "invalid time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := caddyfile.NewTestDispenser("plugin_loading " + c.block)
			d.Next()
			var l Loading
			if err := settings.Read(d, "plugin_loading", &l); err != nil {
				t.Fatal(err)
			}
			got, err := l.Limits()
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Errorf("%v, want %q", err, c.wantErr)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	if got, err := (*Loading)(nil).Limits(); err != nil || got.CPU != plugins.DefaultCompileCPU {
		t.Errorf("without settings: %+v, %v", got, err)
	}
	if _, err := (&Loading{CPU: caddy.Duration(-1)}).Limits(); err == nil {
		t.Error("a negative time in JSON is accepted")
	}
}

// A program that does not dispatch the command of the compiler must not start itself as one.
func TestOnlyTheCommandLineEnablesTheCompiler(t *testing.T) {
	if o := LoadingOptions(nil, quiet); o.Compiler != nil {
		t.Error("a test binary starts itself as a compiler")
	}
}
