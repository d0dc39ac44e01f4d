package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads a compose file as `docker compose` does: interpolated, checked by the schema, and with paths resolved.
func load(t *testing.T, file string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithInterpolation(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// The sites' compose files are complete: what they mount and build exists, ports are for this machine alone, and the
// relay has no rights.
func TestCompose(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples", "django", "*", "compose.yaml"))
	if err != nil || len(files) != 3 {
		t.Fatalf("compose files: %v (%v)", files, err)
	}
	ports := map[string]string{}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			p := load(t, file)
			if got := p.ServiceNames(); !slices.Equal(got, []string{"edgerelay", "redis", "site"}) {
				t.Fatalf("services %q", got)
			}
			relay, redis, site := p.Services["edgerelay"], p.Services["redis"], p.Services["site"]
			for _, s := range []types.ServiceConfig{relay, site} {
				if s.NetworkMode != "service:redis" || s.DependsOn["redis"].Condition != types.ServiceConditionHealthy {
					t.Errorf("%s: network %s, depends on %+v", s.Name, s.NetworkMode, s.DependsOn)
				}
			}
			if len(redis.Ports) != 1 || redis.Ports[0].HostIP != "127.0.0.1" || redis.Ports[0].Target != 8080 {
				t.Errorf("ports %+v", redis.Ports)
			} else if other := ports[redis.Ports[0].Published]; other != "" {
				t.Errorf("port %s is that of %s, too", redis.Ports[0].Published, other)
			} else {
				ports[redis.Ports[0].Published] = name
			}
			if !relay.ReadOnly || !slices.Equal(relay.CapDrop, []string{"ALL"}) || len(relay.SecurityOpt) != 1 {
				t.Errorf("the relay has rights: %+v", relay)
			}
			if _, err := os.Stat(filepath.Join(relay.Build.Context, "Dockerfile")); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(site.Build.Context, "manage.py")); err != nil {
				t.Error(err)
			}
			var caddyfile string
			for _, v := range relay.Volumes {
				if v.Target == "/etc/edgerelay/Caddyfile" && v.ReadOnly {
					caddyfile = v.Source
				}
			}
			compareCaddyfiles(t, name, caddyfile)
			var env []string
			for key, value := range relay.Environment {
				env = append(env, key+"="+*value)
				if got := site.Environment[key]; got == nil || *got != *value {
					t.Errorf("%s differs between relay and site", key)
				}
			}
			text, err := os.ReadFile(caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, string(text), env...)
		})
	}
}

// compareCaddyfiles reports differences between the Caddyfile of an example and the one for compose, but for the
// address.
func compareCaddyfiles(t *testing.T, name, caddyfile string) {
	t.Helper()
	var texts [2]string
	for i, file := range []string{filepath.Join(filepath.Dir(caddyfile), "Caddyfile"), caddyfile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Without the comment at the top.
		texts[i] = regexp.MustCompile(`(?m)\A(#.*\n)+`).ReplaceAllString(string(text), "")
	}
	if want := strings.Replace(texts[0], name+".example.com {", "http://:8080 {", 1); texts[1] != want {
		t.Errorf("%s:\n%s\nwant\n%s", caddyfile, texts[1], want)
	}
}
