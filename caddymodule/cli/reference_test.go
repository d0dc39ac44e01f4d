package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

// The committed page equals the one that the commands generate, and describes the JSON of each command that has any.
func TestReferenceIsFresh(t *testing.T) {
	committed, err := os.ReadFile(filepath.Join("..", "..", ReferenceFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, Reference()) {
		t.Errorf("%s is out of date with the commands; run `make reference` and commit the page", ReferenceFile)
	}
	names := map[string]bool{}
	visible(func(_ string, cmd *cobra.Command) { names[commandName(cmd)] = true })
	for name := range jsonShapes {
		if !names[name] {
			t.Errorf("jsonShapes describes %q, which is no command", name)
		}
	}
}
