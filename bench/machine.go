//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// machine describes the machine of a run.
type machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	MemGiB float64 `json:"memory_gib"`
	Kernel string  `json:"kernel"`
	OS     string  `json:"os"`
	Go     string  `json:"go"`
	Files  int     `json:"open_files_limit"`
}

func cores() int { return runtime.NumCPU() }

func thisMachine() machine {
	m := machine{Cores: cores(), Go: runtime.Version()}
	m.CPU = fieldOf("/proc/cpuinfo", "model name", ":")
	m.OS = strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME", "="), `"`)
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		// the release only: the text after a first dash names the vendor of a virtual machine
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(b)), "-")
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.MemGiB = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	m.Files, _ = maxFiles()
	return m
}

// fieldOf reads the first "name <sep> value" line of a file, "" without one.
func fieldOf(file, name, sep string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// versions returns the versions of the systems' programs; missing programs are left out.
func versions(names []string, caddy string) map[string]string {
	v := make(map[string]string)
	note := func(key, program string, args ...string) {
		out, err := exec.Command(program, args...).CombinedOutput()
		if line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n")); err == nil && len(line) > 0 {
			v[key], _, _ = strings.Cut(string(line), " ") // Caddy appends a checksum
		}
	}
	debian := func(pkg string) { note(pkg, "dpkg-query", "-W", "-f", "${Version}", pkg) }
	for _, n := range names {
		switch n {
		case "nchan":
			debian("nginx")
			debian("libnginx-mod-nchan")
		case "daphne":
			for _, p := range []string{"nginx", "daphne", "python3-channels-redis", "python3-django", "redis-server"} {
				debian(p)
			}
		case "edgerelay", "edgerelay-redis":
			note("caddy", caddy, "version")
			if n == "edgerelay-redis" {
				debian("redis-server")
			}
		}
	}
	return v
}

// commit names the checked-out commit, short, and whether tracked files differ from it.
func commit(root string) (short string, dirty bool) {
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	short = git("rev-parse", "--short", "HEAD")
	if short == "" {
		return "unknown", false
	}
	return short, git("status", "--porcelain", "--untracked-files=no") != ""
}

// moduleRoot is the root of the repository, found from the working directory upwards.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; ; d = filepath.Dir(d) {
		if isFile(filepath.Join(d, "bench", "go.mod")) {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}
