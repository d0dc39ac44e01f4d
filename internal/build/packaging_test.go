package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// instructions reads a Dockerfile: each instruction with its arguments, continued lines joined.
func instructions(t *testing.T, file string) [][2]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][2]string
	continued := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if part, more := strings.CutSuffix(line, `\`); more {
			continued += part
			continue
		}
		name, args, _ := strings.Cut(strings.TrimSpace(continued+line), " ")
		continued = ""
		all = append(all, [2]string{name, strings.TrimSpace(args)})
	}
	if continued != "" {
		t.Errorf("%s ends within %q", file, continued)
	}
	return all
}

var option = regexp.MustCompile(`^--([a-z-]+)=(\S+)$`)

// The Dockerfile has known instructions only, copies existing files, and ends as an unprivileged user with a health
// check.
func TestDockerfile(t *testing.T) {
	root := filepath.Join("..", "..")
	known := []string{
		"FROM", "WORKDIR", "COPY", "RUN", "ARG", "LABEL", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK",
		"ENTRYPOINT", "CMD",
	}
	var stages, last []string
	values := map[string]string{} // of the last stage
	for _, i := range instructions(t, filepath.Join(root, "Dockerfile")) {
		name, args := i[0], strings.Fields(i[1])
		if !slices.Contains(known, name) || len(args) == 0 {
			t.Errorf("%s %s: no instruction", name, i[1])
			continue
		}
		last = append(last, name)
		values[name] = i[1]
		switch name {
		case "FROM":
			last, values = nil, map[string]string{}
			if args[0] == "--platform=$BUILDPLATFORM" { // cross-compiled, never emulated
				args = args[1:]
			}
			if len(args) == 3 && args[1] == "AS" {
				stages = append(stages, args[2])
			} else if len(args) != 1 {
				t.Errorf("FROM %s", i[1])
			}
		case "COPY":
			from := ""
			for len(args) > 0 && strings.HasPrefix(args[0], "--") {
				m := option.FindStringSubmatch(args[0])
				if m == nil || !slices.Contains([]string{"from", "chown", "chmod"}, m[1]) {
					t.Errorf("COPY %s: %s", i[1], args[0])
				} else if m[1] == "from" {
					from = m[2]
				}
				args = args[1:]
			}
			if len(args) < 2 {
				t.Errorf("COPY %s: from where to where?", i[1])
				continue
			}
			if from != "" && !slices.Contains(stages, from) {
				t.Errorf("COPY %s: there is no stage %s before", i[1], from)
			}
			for _, source := range args[:len(args)-1] {
				if _, err := os.Stat(filepath.Join(root, source)); from == "" && err != nil {
					t.Errorf("COPY %s: %v", i[1], err)
				}
			}
		case "RUN":
			if out, err := exec.Command("sh", "-n", "-c", i[1]).CombinedOutput(); err != nil {
				t.Errorf("RUN %s: %s", i[1], out)
			}
		}
	}
	if len(stages) == 0 {
		t.Error("the build is not a stage of its own")
	}
	if user := values["USER"]; user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("it runs as %q", user)
	}
	// The image has no shell.
	for _, name := range []string{"ENTRYPOINT", "CMD", "HEALTHCHECK"} {
		if _, list, ok := strings.Cut(values[name], "["); !ok || !strings.HasSuffix(list, `"]`) {
			t.Errorf("%s %s is no list of words", name, values[name])
		}
	}
	if slices.Contains(last, "RUN") {
		t.Error("the last stage runs something; there is nothing to run it with")
	}
	goMod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(goMod))[1]
	dockerfile, _ := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if !strings.Contains(string(dockerfile), "FROM --platform=$BUILDPLATFORM golang:"+version+"-") {
		t.Errorf("the Dockerfile does not build with Go %s, as go.mod says", version)
	}
}

// The systemd unit is well-formed and hardened, and its commands exist in Caddy.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", "edgerelay.service"))
	if err != nil {
		t.Fatal(err)
	}
	settings, section := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case !ok || section == "":
			t.Errorf("%q is no setting", line)
		default:
			settings[section+"."+key] = value
		}
	}
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.User": "edgerelay", "Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict",
		"Service.ProtectHome": "yes", "Service.PrivateTmp": "yes", "Service.CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
		"Service.SystemCallFilter": "@system-service", "Service.LimitNOFILE": "1048576", "Install.WantedBy": "multi-user.target",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
	for _, key := range []string{"Service.ExecStart", "Service.ExecReload"} {
		words := strings.Fields(settings[key])
		if len(words) < 2 || words[0] != "edgerelay" {
			t.Errorf("%s is %q", key, settings[key])
			continue
		}
		help, err := caddyCommand(t, words[1], "--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", words[1], err, help)
		}
		for _, w := range words[2:] {
			if strings.HasPrefix(w, "--") && !strings.Contains(string(help), w) {
				t.Errorf("caddy %s knows no %s", words[1], w)
			}
		}
	}
	if strings.Contains(settings["Service.ExecStart"], "--environ") {
		t.Error("--environ writes the environment, and with it secrets, into the log")
	}
}

// A start may wait for the compiler of plugins: whatever starts the server waits longer, and does not end it.
func TestStartsOutlastTheCompiler(t *testing.T) {
	for file, c := range map[string]struct {
		pattern string // whose group is a number of units
		unit    time.Duration
	}{
		"deploy/systemd/edgerelay.service": {`(?m)^TimeoutStartSec=(\d+)min$`, time.Minute},
		"Dockerfile":                       {`(?m)^HEALTHCHECK .*--start-period=(\d+)m `, time.Minute},
		"deploy/helm/edgerelay/values.yaml": {
			`(?m)^startupProbe:\n(?:  .*\n)*  periodSeconds: 2\n(?:  .*\n)*  failureThreshold: (\d+)$`, 2 * time.Second,
		},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(c.pattern).FindSubmatch(text)
		if m == nil {
			t.Errorf("%s has no limit of the start like %s", file, c.pattern)
			continue
		}
		n, err := strconv.Atoi(string(m[1]))
		if limit := time.Duration(n) * c.unit; err != nil || limit < plugins.DefaultCompileTime+time.Minute {
			t.Errorf("%s: a start may take %v (%v), the compiler %v", file, limit, err, plugins.DefaultCompileTime)
		}
	}
}

// A release has the files that .goreleaser.yaml names, and is compiled as the container image is.
func TestReleaseConfiguration(t *testing.T) {
	root := filepath.Join("..", "..")
	config, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`\{src: ([^,]+),`).FindAllStringSubmatch(string(config), -1)
	if len(files) < 5 {
		t.Fatalf("got %d files, want at least 5", len(files))
	}
	hooks := regexp.MustCompile(`(?m)^before:\n(.*\n)*?\n`).FindString(string(config))
	for _, m := range files {
		if strings.HasPrefix(m[1], "bin/") && strings.Contains(hooks, " "+filepath.Dir(m[1])+"\n") {
			continue // a hook makes it
		}
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Error(err)
		}
	}
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-trimpath", "-tags=nobadger,nomysql,nopgx", "-s -w", "-pgo=deploy/default.pgo"} {
		for file, text := range map[string]string{".goreleaser.yaml": string(config), "Dockerfile": string(dockerfile)} {
			if !strings.Contains(text, flag) {
				t.Errorf("%s: no %s", file, flag)
			}
		}
	}
}

// scripts/start-release.sh makes a release of the files as they are: the notes are the entries under Unreleased, and
// every file with a version has the new one.
func TestStartOfRelease(t *testing.T) {
	repository, root := filepath.Join("..", ".."), t.TempDir()
	versions := []string{
		"deploy/helm/edgerelay/Chart.yaml", "deploy/kustomize/awx-operator/download/awx.yaml",
		"deploy/kustomize/awx-operator/image-volume/awx.yaml",
	}
	for _, name := range append(versions, "CHANGELOG.md", "scripts/start-release.sh", "scripts/release-notes.sh") {
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(dir, name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	run := func(script, version string) (string, error) {
		out, err := exec.Command("sh", filepath.Join(root, "scripts", script), version).CombinedOutput()
		return string(out), err
	}
	_, unreleased, _ := strings.Cut(read(repository, "CHANGELOG.md"), "\n## Unreleased\n")
	unreleased, _, _ = strings.Cut(unreleased, "\n## ")
	if out, err := run("start-release.sh", "v7.8.9"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if notes, err := run("release-notes.sh", "v7.8.9"); err != nil || strings.TrimSpace(notes) != strings.TrimSpace(unreleased) {
		t.Errorf("the notes (%v) are not the entries under Unreleased:\n%s", err, notes)
	}
	for _, name := range versions {
		if !strings.Contains(read(root, name), "7.8.9") {
			t.Errorf("%s has another version:\n%s", name, read(root, name))
		}
	}
	done := read(root, "CHANGELOG.md")
	for _, version := range []string{"7.8.9", "7.9.0", "next", ""} { // there is one; nothing is new; no versions
		if out, err := run("start-release.sh", version); err == nil || read(root, "CHANGELOG.md") != done {
			t.Errorf("%q: %v, and the file changes\n%s", version, err, out)
		}
	}
}

// The notes of a release are its section of CHANGELOG.md.
func TestReleaseNotes(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "scripts"), 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join("..", "..", "scripts", "release-notes.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"scripts/release-notes.sh": string(script),
		"CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n- later\n\n## 1.2.3\n\n### Added\n- this\n\n## " +
			"1.2.2\n\n- old\n\n## 1.2.1\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("sh", filepath.Join(root, "scripts", "release-notes.sh"), "v1.2.3").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "### Added\n- this" {
		t.Errorf("notes of v1.2.3: %v\n%s", err, out)
	}
	for _, none := range []string{"v1.2.1", "v9.9.9"} {
		if out, err := exec.Command("sh", filepath.Join(root, "scripts", "release-notes.sh"), none).CombinedOutput(); err == nil {
			t.Errorf("notes of %s: %s", none, out)
		}
	}
}
