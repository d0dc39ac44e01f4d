package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordingWarnsOfCredentials(t *testing.T) {
	open := func(mode os.FileMode) *os.File {
		t.Helper()
		file, err := os.Create(filepath.Join(t.TempDir(), "visits.ndjson"))
		if err == nil {
			t.Cleanup(func() { _ = file.Close() })
			err = file.Chmod(mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct {
		options pluginRecordOptions
		mode    os.FileMode
		want    []string
	}{
		"private file":             {mode: 0o600},
		"file of other users, too": {mode: 0o644, want: []string{"readable by other users (mode 0644)", "--output"}},
		"open connections":         {pluginRecordOptions{open: true}, 0o600, []string{"can hold credentials"}},
		"kept credentials":         {pluginRecordOptions{secrets: true}, 0o600, []string{"--secrets"}},
		"both":                     {pluginRecordOptions{open: true}, 0o640, []string{"--open", "(mode 0640)"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.options.warning(open(c.mode))
			if (got == "") != (len(c.want) == 0) {
				t.Errorf("warning %q, want %q", got, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("warning %q lacks %q", got, want)
				}
			}
		})
	}
}

func TestRecordingDoesNotReplaceAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "visits.ndjson")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openRecording(name, false, "use another name")
	if err == nil || !strings.HasSuffix(err.Error(), "exists; use another name") {
		t.Errorf("error %v", err)
	}
}
