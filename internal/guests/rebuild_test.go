package guests_test

import (
	"os"
	"os/exec"
	"path/filepath"
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
	for _, lang := range []string{"rust", "assemblyscript", "c"} {
		t.Run("new "+lang+" project", func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "my-plugin")
			if err := scaffold.New(lang, dir, ""); err != nil {
				t.Fatal(err)
			}
			if lang == "assemblyscript" { // the compiler that the script fetched is the one that the project names
				compiler, err := filepath.Abs(filepath.Join(guests.Root, "sdk", "assemblyscript", "node_modules"))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(compiler, filepath.Join(dir, "node_modules")); err != nil {
					t.Fatal(err)
				}
			}
			guests.CheckProject(t, dir)
		})
	}
}
