package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	pinned = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
)

// Workflows run foreign code by its hash, and have no right that they do not name.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", ".github", "workflows", "*.yml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("workflows: %v (%v)", files, err)
	}
	pins := map[string]string{} // action → its version and hash
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if !strings.Contains(string(text), "\npermissions:\n  contents: read\n") {
			t.Errorf("%s: the workflow's own permissions are not `contents: read`; jobs may have more", name)
		}
		for _, m := range uses.FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(m[1], "./") {
				continue
			}
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s; want owner/name@<hash of the commit> # v1.2.3", name, m[1])
				continue
			}
			action, pin, _ := strings.Cut(m[1], "@")
			if other := pins[action]; other != "" && other != pin {
				t.Errorf("%s: %s is %s, and %s elsewhere", name, action, pin, other)
			}
			pins[action] = pin
		}
	}
}

// CI tests the browser client under Node 20, and under the Node that publishes it.
func TestClientIsTestedUnderEachNode(t *testing.T) {
	folder := filepath.Join("..", "..", ".github", "workflows")
	ci, err := os.ReadFile(filepath.Join(folder, "ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	packages, err := os.ReadFile(filepath.Join(folder, "packages.yml"))
	if err != nil {
		t.Fatal(err)
	}
	publishes := regexp.MustCompile(`node-version: (\d+)`).FindSubmatch(packages)
	if publishes == nil {
		t.Fatal("packages.yml names no version of Node")
	}
	if want := "node: [20, " + string(publishes[1]) + "]"; !strings.Contains(string(ci), want) {
		t.Errorf("ci.yml has no matrix %q", want)
	}
}

// Dependabot looks after each place that names dependencies.
func TestDependabot(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, ".github", "dependabot.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for file, ecosystem := range map[string]string{
		"go.mod": "gomod", "package.json": "npm", "Cargo.toml": "cargo", "Dockerfile": "docker", "compose.yaml": "docker-compose",
	} {
		_, part, found := strings.Cut(string(text), "package-ecosystem: "+ecosystem+"\n")
		if !found {
			t.Errorf("no %s", ecosystem)
			continue
		}
		part, _, _ = strings.Cut(part, "package-ecosystem:")
		for _, dir := range directoriesOf(t, root, file) {
			if !strings.Contains(part, `"`+dir+`"`) {
				t.Errorf("%s: no folder %s, which has a %s", ecosystem, dir, file)
			}
		}
	}
}

// directoriesOf returns the folders of the repository that have a file, without templates and members of workspaces.
func directoriesOf(t *testing.T, root, file string) (dirs []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "node_modules" || e.Name() == "target" || e.Name() == ".git" || e.Name() == "bin") {
			return filepath.SkipDir
		}
		if e.Name() != file {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(filepath.Clean("/" + dir))
		text, err := os.ReadFile(path)
		if err != nil || strings.HasPrefix(dir, "/sdk/templates") {
			return err
		}
		member := strings.HasPrefix(dir, "/examples/") && strings.Count(dir, "/") > 2 && file == "Cargo.toml"
		if !member && strings.TrimSpace(string(text)) != "" {
			dirs = append(dirs, dir)
		}
		return nil
	})
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%s: %v (%v)", file, dirs, err)
	}
	return dirs
}
