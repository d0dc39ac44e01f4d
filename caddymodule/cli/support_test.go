package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that exists is reported before anything is collected: no relay runs at the address.
func TestSupportBundleKeepsFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(name, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	o := supportOptions{address: "unix/" + filepath.Join(t.TempDir(), "none.sock"), output: name}
	err := o.run(t.Context(), &out, &log)
	if err == nil || !strings.Contains(err.Error(), "exists; choose another file") {
		t.Errorf("error %v, want one about the file", err)
	}
	if out.Len()+log.Len() > 0 {
		t.Errorf("output %q, progress %q, want none", &out, &log)
	}
	if kept, err := os.ReadFile(name); err != nil || string(kept) != "before" {
		t.Errorf("the file has %q (%v)", kept, err)
	}
}
