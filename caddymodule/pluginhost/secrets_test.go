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

// A changed secret reaches the running module without a reload. A secret that the module refuses is reported, and the
// module goes on with the old one.
func TestSecretFilesAreWatched(t *testing.T) {
	s := newSite(t)
	secret := filepath.Join(s.dir, "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(secret+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(secret+".new", secret); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(want string) {
		t.Helper()
		if got := string(s.running[0].module.plugin.spec.Config); got != `{"token":"`+want+`"}` {
			t.Errorf("the module runs with %s, want %s", got, want)
		}
		if got := s.running[0].module.plugin.spec.Secrets; !slices.Equal(got, []string{want}) {
			t.Errorf("the secrets %q are concealed, want %q", got, want)
		}
	}
	schema := `{"config_schema": {"type": "object", "properties": {"token": {"type": "string", "maxLength": 8}}}}`
	one := withManifest(t, module(t, "one1"), schema)
	s.write(one)
	write("first-1\n")
	s.plugin.Config = json.RawMessage(`{"token": "{file.` + secret + `}"}`)
	s.start()
	deploys := s.Pipeline.Health()[0].Deploys
	s.follows()
	runs("first-1")
	write("second-2\n")
	s.follows()
	runs("second-2")
	if got := s.Pipeline.Health()[0].Deploys - deploys; got != 1 {
		t.Errorf("the module was replaced %d times, want once", got)
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	s.follows()
	write("much-too-long\n")
	s.follows()
	runs("second-2")
	if got := s.status().Refused; !strings.Contains(got, "config_schema") || strings.Contains(got, "much") {
		t.Errorf("refused: %q", got)
	}
	write("third-3\n")
	s.follows()
	runs("third-3")
	if got := s.status().Refused; got != "" {
		t.Errorf("refused: %q", got)
	}
	s.deploy(one, Change{Settings: []byte(`{"config": {"token": "{file.` + secret + `}"}, "on_error": "drop"}`)})
	write("fourth-4\n")
	s.follows()
	runs("fourth-4")
	s.runs(one, FromDeploy, 2)
	if got := s.running[0].module.plugin.OnError; got != "drop" {
		t.Errorf("on_error is %q: the settings of the deployment are lost", got)
	}
}
