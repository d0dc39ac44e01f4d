package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
	"go.yaml.in/yaml/v3"
)

// packaging is the section nfpms of .goreleaser.yaml, which has the fields of nfpm itself but for these.
type packaging struct {
	Builds []struct{ Binary string }
	NFPMs  []struct {
		PackageName      string         `yaml:"package_name"`
		Bindir           string         `yaml:"bindir"`
		Formats          []string       `yaml:"formats"`
		FileNameTemplate string         `yaml:"file_name_template"`
		Dependencies     []string       `yaml:"dependencies"`
		MTime            string         `yaml:"mtime"`
		Contents         files.Contents `yaml:"contents"`
		Scripts          nfpm.Scripts   `yaml:"scripts"`
		Overrides        map[string]struct {
			Dependencies []string `yaml:"dependencies"`
		} `yaml:"overrides"`
		RPM struct {
			Group     string `yaml:"group"`
			BuildHost string `yaml:"buildhost"`
		} `yaml:"rpm"`
		Vendor, Homepage, Maintainer, Description, License, Section, Priority string
	}
}

// makeLicenses writes LICENSE, NOTICE and the licenses of the binary's modules, once, as goreleaser's hook does.
var makeLicenses = sync.OnceValues(func() ([]byte, error) {
	cmd := exec.Command("go", "run", "./internal/build/licenses", "bin/licenses")
	cmd.Dir = root
	return cmd.CombinedOutput()
})

// makeShellFiles makes completions and man pages, once, as goreleaser's hook does.
var makeShellFiles = sync.OnceValues(func() ([]byte, error) {
	cmd := exec.Command(filepath.Join("scripts", "shell-files.sh"), filepath.Join("bin", "shell"), os.Getenv("EDGERELAY_CADDY"))
	cmd.Dir = root
	return cmd.CombinedOutput()
})

// makePackage builds a package with a program as goreleaser does.
func makePackage(t *testing.T, format, version, program string) string {
	t.Helper()
	if out, err := makeShellFiles(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := makeLicenses(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config packaging
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	p := config.NFPMs[0]
	if !slices.Contains(p.Formats, format) {
		t.Fatalf("goreleaser makes %q", p.Formats)
	}
	contents := append(files.Contents{}, p.Contents...)
	for _, c := range contents {
		c.Source = filepath.Join(root, c.Source)
	}
	contents = append(contents, &files.Content{
		Source: program, Destination: filepath.Join(p.Bindir, config.Builds[0].Binary), FileInfo: &files.ContentFileInfo{Mode: 0o755},
	})
	for _, script := range []*string{&p.Scripts.PreInstall, &p.Scripts.PostInstall, &p.Scripts.PreRemove, &p.Scripts.PostRemove} {
		*script = filepath.Join(root, *script)
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: p.PackageName, Arch: runtime.GOARCH, Platform: "linux", Version: version, Section: p.Section, Priority: p.Priority,
		Maintainer: p.Maintainer, Description: p.Description, Vendor: p.Vendor, Homepage: p.Homepage, License: p.License,
		MTime: time.Unix(1_700_000_000, 0),
		Overridables: nfpm.Overridables{
			Contents: contents, Scripts: p.Scripts, Depends: p.Overrides[format].Dependencies,
			RPM: nfpm.RPM{Group: p.RPM.Group, BuildHost: p.RPM.BuildHost},
		},
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		t.Fatal(err)
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		t.Fatal(err)
	}
	var built bytes.Buffer
	if err := packager.Package(info, &built); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "edgerelay."+format)
	if err := os.WriteFile(file, built.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// licenses are the files with the terms of the product and of all that is in its binary, each with a text that it has.
var licenses = map[string]string{
	"LICENSE": "Apache License", "NOTICE": "The edgerelay authors",
	"THIRD_PARTY_LICENSES": "^github.com/caddyserver/caddy/v2 v2.",
}

// small is a program in place of the binary, where its size alone would matter.
func small(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edgerelay")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho edgerelay\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// The same files make the same package, so that a second build of a release can be compared with the first.
func TestPackagesAreReproducible(t *testing.T) {
	program := small(t)
	for _, format := range []string{"deb", "rpm"} {
		var builds [2][]byte
		for i := range builds {
			text, err := os.ReadFile(makePackage(t, format, "0.1.0", program))
			if err != nil {
				t.Fatal(err)
			}
			builds[i] = text
		}
		if !bytes.Equal(builds[0], builds[1]) {
			t.Errorf("a second build of the %s differs", format)
		}
	}
}

// The scripts of the packages are right for every shell.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root, "deploy", "*", "*.sh"))
	if err != nil || len(scripts) < 5 {
		t.Fatalf("scripts %v (%v)", scripts, err)
	}
	if out, err := exec.Command("shellcheck", scripts...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The deb is installed in a copy of this machine: files, user, configuration, unit, upgrade, removal and purge.
func TestDeb(t *testing.T) {
	deb, next := makePackage(t, "deb", "0.1.0", binary(t)), makePackage(t, "deb", "0.2.0", small(t))
	out, err := exec.Command("dpkg-deb", "--info", deb).CombinedOutput()
	for _, want := range []string{"Package: edgerelay\n", "Version: 0.1.0\n", "Depends: ca-certificates, passwd\n", "Section: httpd\n", "conffiles"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("no %q (%v)\n%s", want, err, out)
		}
	}
	m := newMachine(t)
	m.copy(deb, "/first.deb")
	m.copy(next, "/next.deb")
	m.run("dpkg", "--install", "/first.deb")
	m.check("the binary's name", "stat -c '%A %U' /usr/bin/edgerelay", "-rwxr-xr-x root")
	m.check("the user", "getent passwd edgerelay | cut -d: -f6,7", "/var/lib/edgerelay:/usr/sbin/nologin")
	m.check("secrets", "stat -c '%a %U' /etc/edgerelay/environment", "600 root")
	m.check("caddy is not replaced", "dpkg -L edgerelay | grep -c caddy$ || true", "0")
	m.check("the configuration", "edgerelay validate --config /etc/edgerelay/Caddyfile --adapter caddyfile >/dev/null 2>&1 && echo valid", "valid")
	m.check("the unit", "systemd-analyze verify edgerelay.service 2>&1 | grep edgerelay || true", "")
	m.check("the service is off", "ls /etc/systemd/system/multi-user.target.wants 2>/dev/null | grep edgerelay || true", "")
	for _, file := range []string{
		"bash-completion/completions/edgerelay", "zsh/vendor-completions/_edgerelay", "fish/vendor_completions.d/edgerelay.fish",
		"man/man8/edgerelay.8", "man/man8/edgerelay-plugin-deploy.8",
	} {
		m.check(file, "test -s /usr/share/"+file+" && echo there", "there")
	}
	for file, want := range licenses {
		m.check(file, "grep --quiet '"+want+"' /usr/share/doc/edgerelay/"+file+" && echo there", "there")
	}
	m.check("the installed binary has the relay's commands", "edgerelay status --address localhost:1 2>/dev/null; echo $?", "3")
	m.check("an example", "test -s /usr/share/doc/edgerelay/examples/awx.Caddyfile && echo there", "there")
	m.run("sh", "-c", "echo '# mine' >>/etc/edgerelay/Caddyfile")
	m.run("dpkg", "--install", "/next.deb")
	m.check("the changed configuration after an upgrade", "tail -n 1 /etc/edgerelay/Caddyfile", "# mine")
	m.check("the version after an upgrade", "dpkg-query -W -f '${Version}' edgerelay", "0.2.0")
	m.run("dpkg", "--remove", "edgerelay")
	m.check("the binary after removal", "test -e /usr/bin/edgerelay || echo gone", "gone")
	m.check("the configuration after removal", "tail -n 1 /etc/edgerelay/Caddyfile", "# mine")
	m.run("sh", "-c", "mkdir -p /var/lib/edgerelay/caddy")
	m.run("dpkg", "--purge", "edgerelay")
	m.check("after purge", "ls -d /etc/edgerelay /var/lib/edgerelay 2>/dev/null || echo gone", "gone")
}

// The rpm has the same files, and keeps a changed configuration.
func TestRPM(t *testing.T) {
	rpm := makePackage(t, "rpm", "0.1.0", small(t))
	query := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("rpm", append([]string{"--dbpath", t.TempDir(), "-qp", "--nosignature"}, append(args, rpm)...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return string(out)
	}
	info := query("--info")
	for _, want := range []string{"Name        : edgerelay\n", "Version     : 0.1.0\n", "License     : Apache-2.0\n", "Build Host  : edgerelay\n"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
	list := strings.Fields(query("--list"))
	for _, want := range []string{
		"/usr/bin/edgerelay", "/etc/edgerelay/Caddyfile", "/usr/lib/systemd/system/edgerelay.service",
		"/usr/share/bash-completion/completions/edgerelay", "/usr/share/zsh/site-functions/_edgerelay",
		"/usr/share/man/man8/edgerelay-status.8", "/usr/share/doc/edgerelay/LICENSE", "/usr/share/doc/edgerelay/NOTICE",
		"/usr/share/doc/edgerelay/THIRD_PARTY_LICENSES",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("no %s in %q", want, list)
		}
	}
	if got, want := query("--configfiles"), "/etc/edgerelay/Caddyfile\n/etc/edgerelay/environment\n"; got != want {
		t.Errorf("configuration %q, want %q", got, want)
	}
	if flags := query("--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"); !strings.Contains(flags, "/etc/edgerelay/Caddyfile cn\n") {
		t.Errorf("the configuration is not noreplace:\n%s", flags)
	}
	if scripts := query("--scripts"); !strings.Contains(scripts, "useradd --system") || !strings.Contains(scripts, "disable --now") {
		t.Errorf("scripts\n%s", scripts)
	}
	if requires := query("--requires"); !strings.Contains(requires, "shadow-utils") || strings.Contains(requires, "passwd") {
		t.Errorf("requires %s", requires)
	}
}
