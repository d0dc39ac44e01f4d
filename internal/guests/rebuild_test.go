package guests_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/scaffold"
)

// TestRebuilt: every committed .wasm behaves like a module built from its source. The bytes may differ with the
// version of the compiler.
func TestRebuilt(t *testing.T) {
	dir := t.TempDir()
	guests.Run(t, exec.Command(filepath.Join(guests.Root, "scripts", "build-plugins.sh"), dir))
	t.Run("modules", func(t *testing.T) { guests.CheckRebuilt(t, dir) })
	for _, kind := range scaffold.Kinds() {
		for _, lang := range []string{"rust", "assemblyscript", "c"} {
			t.Run("new "+kind+" in "+lang, func(t *testing.T) { holdProject(t, kind, lang) })
		}
	}
	t.Run("npm package", testPackage)
	t.Run("crate", testCrate)
}

// holdProject builds a new project, and runs its unit tests and its golden samples.
func holdProject(t *testing.T, kind, lang string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my-plugin")
	if err := scaffold.New(kind, lang, dir, ""); err != nil {
		t.Fatal(err)
	}
	if lang == "assemblyscript" { // as npm install does
		linkPackages(t, dir)
		link(t, filepath.Join(dir, "edgerelay"), filepath.Join(dir, "node_modules", "edgerelay"))
		link(t, filepath.Join(dir, "edgerelay", "bin", "manifest.js"),
			filepath.Join(dir, "node_modules", ".bin", "edgerelay-manifest"))
	}
	guests.CheckProject(t, dir)
	cmd := exec.Command(unitTests[lang][0], unitTests[lang][1:]...)
	cmd.Dir = dir
	guests.Run(t, cmd)
}

// unitTests are the commands that the READMEs of new projects name.
var unitTests = map[string][]string{
	"rust":           {"cargo", "test", "--quiet", "--offline"},
	"assemblyscript": {"npm", "test"},
	"c":              {"sh", "test.sh"},
}

// testCrate packages the crate as for crates.io, and builds and tests a project with it, as its README says.
func testCrate(t *testing.T) {
	target, dir := t.TempDir(), filepath.Join(t.TempDir(), "my-plugin")
	if err := scaffold.New(scaffold.Filter, "rust", dir, ""); err != nil {
		t.Fatal(err)
	}
	pack := exec.Command("cargo", "package", "--quiet", "--offline", "--allow-dirty", "--no-verify",
		"--target-dir", target)
	pack.Dir = filepath.Join(guests.Root, "sdk", "rust")
	guests.Run(t, pack)
	crates, err := filepath.Glob(filepath.Join(target, "package", "edgerelay-*.crate"))
	if err != nil || len(crates) != 1 {
		t.Fatalf("crates %v, %v", crates, err)
	}
	// The folder vendor takes the place of crates.io.
	vendor := filepath.Join(dir, "vendor")
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, ".cargo", "config.toml"),
		"[source.crates-io]\nreplace-with = \"vendor\"\n[source.vendor]\ndirectory = \"vendor\"\n")
	write(filepath.Join(vendor, "edgerelay", ".cargo-checksum.json"), `{"files":{}}`)
	crate := filepath.Join(vendor, "edgerelay")
	guests.Run(t, exec.Command("tar", "-xzf", crates[0], "-C", crate, "--strip-components=1"))
	for _, file := range []string{"README.md", "LICENSE", "src/lib.rs"} {
		if _, err := os.Stat(filepath.Join(crate, file)); err != nil {
			t.Error(err)
		}
	}
	manifest := filepath.Join(dir, "Cargo.toml")
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	write(manifest, strings.Replace(string(text), `, path = "edgerelay"`, "", 1))
	if err := os.RemoveAll(filepath.Join(dir, "edgerelay")); err != nil {
		t.Fatal(err)
	}
	test := exec.Command("cargo", "test", "--quiet", "--offline")
	test.Dir = dir
	guests.Run(t, test)
}

// testPackage installs the package that npm would publish in a project outside the repository, as its README says.
func testPackage(t *testing.T) {
	tarballs, dir := t.TempDir(), filepath.Join(t.TempDir(), "my-plugin")
	if err := scaffold.New(scaffold.Filter, "assemblyscript", dir, ""); err != nil {
		t.Fatal(err)
	}
	pack := exec.Command("npm", "pack", "--silent", "--pack-destination", tarballs)
	pack.Dir = filepath.Join(guests.Root, "sdk", "assemblyscript")
	tarball := strings.TrimSpace(guests.Run(t, pack))
	if err := os.RemoveAll(filepath.Join(dir, "edgerelay")); err != nil {
		t.Fatal(err)
	}
	// The compiler is linked below: a peer of the package, of 100 MB.
	manifest := filepath.Join(dir, "package.json")
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?s)"devDependencies": \{.*?\}`).ReplaceAll(text, []byte(`"devDependencies": {}`))
	if err := os.WriteFile(manifest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "install", "--silent", "--offline", "--no-audit", "--no-fund", "--legacy-peer-deps",
		"--save-dev", filepath.Join(tarballs, tarball))
	install.Dir = dir
	guests.Run(t, install)
	linkPackages(t, dir)
	guests.CheckProject(t, dir)
	test := exec.Command("node", "--test") // what npm test does after the build
	test.Dir = dir
	guests.Run(t, test)
}

// linkPackages makes the compiler that scripts/build-plugins.sh fetched a package of a project. The project names the
// same version.
func linkPackages(t *testing.T, dir string) {
	t.Helper()
	from, err := filepath.Abs(filepath.Join(guests.Root, "sdk", "assemblyscript", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "node_modules")
	if err := os.MkdirAll(filepath.Join(to, ".bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"assemblyscript", "binaryen", "long"} {
		link(t, filepath.Join(from, name), filepath.Join(to, name))
	}
	link(t, filepath.Join(from, "assemblyscript", "bin", "asc.js"), filepath.Join(to, ".bin", "asc"))
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}
