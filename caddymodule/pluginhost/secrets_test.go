package pluginhost

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestResolveSecrets(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	for name, text := range map[string]string{"token": "s3cret\"x\n", "empty": "\n", "large": strings.Repeat("x", maxSecretFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PLUGIN_TOKEN", "hunter2")
	t.Setenv("PLUGIN_EMPTY", "")
	for name, c := range map[string]struct {
		config, want string
		secrets      []string
		err          string
	}{
		"none":            {`{"re": "a{2,3}", "t": "{job.id}"}`, `{"re": "a{2,3}", "t": "{job.id}"}`, nil, ""},
		"null":            {``, ``, nil, ""},
		"environment":     {`{"t": "Bearer {env.PLUGIN_TOKEN}!", "n": 12345678901234567890}`, `{"n":12345678901234567890,"t":"Bearer hunter2!"}`, []string{"hunter2"}, ""},
		"file":            {`[["{file.` + token + `}"]]`, `[["s3cret\"x"]]`, []string{`s3cret"x`}, ""},
		"two":             {`["{env.PLUGIN_TOKEN}{file.` + token + `}"]`, `["hunter2s3cret\"x"]`, []string{"hunter2", `s3cret"x`}, ""},
		"names stay":      {`{"{env.PLUGIN_TOKEN}": 1}`, `{"{env.PLUGIN_TOKEN}":1}`, nil, ""},
		"escaped":         {`["\\{env.PLUGIN_TOKEN} {env.PLUGIN_TOKEN}"]`, `["{env.PLUGIN_TOKEN} hunter2"]`, []string{"hunter2"}, ""},
		"missing":         {`{"a": [{"t": "{env.PLUGIN_NONE}"}]}`, "", nil, "config.a[0].t: {env.PLUGIN_NONE}: the environment variable is not set"},
		"empty":           {`["{env.PLUGIN_EMPTY}"]`, "", nil, "not set, or empty"},
		"missing file":    {`["{file./not/there}"]`, "", nil, "config[0]: {file./not/there}: "},
		"empty file":      {`["{file.` + dir + `/empty}"]`, "", nil, "is empty"},
		"large file":      {`["{file.` + dir + `/large}"]`, "", nil, "more than 65536 bytes"},
		"named pipe":      {`["{file.` + dir + `/pipe}"]`, "", nil, "not a regular file"},
		"no closing":      {`["{env.PLUGIN_TOKEN"]`, "", nil, "no closing brace"},
		"value has brace": {`["x{env.PLUGIN_TOKEN}{env.}"]`, "", nil, "{env.}: the environment variable is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			got, secrets, err := resolveSecrets(json.RawMessage(c.config))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || string(got) != c.want || !slices.Equal(secrets, c.secrets) {
				t.Errorf("got %s, %q, %v", got, secrets, err)
			}
		})
	}
}

func FuzzResolveSecrets(f *testing.F) {
	f.Add([]byte(`{"a": ["{env.HOME}", "\\{env.X}", "{file./etc/hostname}"]}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		if !json.Valid(config) || strings.Contains(string(config), "{file.") {
			return
		}
		if got, _, err := resolveSecrets(config); err == nil && !json.Valid(got) {
			t.Fatalf("%q becomes %q", config, got)
		}
	})
}
