// Package scaffold starts plugin projects: what `caddy edgerelay plugin new` writes.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/edgerelay/edgerelay/sdk"
)

// languages maps each language to where the SDK's files go in a project: from a file or folder of sdk.Files.
var languages = map[string]map[string]string{
	"go":             {}, // in the template
	"rust":           {"rust/Cargo.toml": "edgerelay/Cargo.toml", "rust/src": "edgerelay/src"},
	"assemblyscript": {"assemblyscript/assembly/index.ts": "edgerelay.ts"},
	"c":              {"c/edgerelay.h": "edgerelay.h"},
}

// Languages lists the languages that New knows, in the order in which to show them.
func Languages() []string { return []string{"go", "rust", "assemblyscript", "c"} }

var validName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// New writes a plugin project in lang, complete with SDK, golden samples, a Caddyfile to try it and a README, to dir,
// which must be empty or missing. name is the plugin's; empty means the last element of dir. Nothing is written if an
// argument is wrong.
func New(lang, dir, name string) error {
	parts, ok := languages[lang]
	if !ok {
		return fmt.Errorf("no plugins are written in %q: use one of %s", lang, strings.Join(Languages(), ", "))
	}
	if name == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("start a plugin: %w", err)
		}
		name = filepath.Base(abs)
	}
	if !validName.MatchString(name) {
		return fmt.Errorf("%q cannot be a plugin's name: use 1 to 64 letters, digits, - and _, a letter first", name)
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("%s is not empty: name a new directory", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("start a plugin: %w", err)
	}
	if err := write(lang, dir, name, parts); err != nil {
		return fmt.Errorf("start a plugin: %w", err)
	}
	return nil
}

func write(lang, dir, name string, parts map[string]string) error {
	fill := func(text []byte) []byte { return []byte(strings.ReplaceAll(string(text), "{{name}}", name)) }
	same := func(text []byte) []byte { return text }
	for _, from := range []string{"templates/common", "templates/" + lang} {
		if err := tree(from, dir, fill); err != nil {
			return err
		}
	}
	for from, to := range parts {
		if err := tree(from, filepath.Join(dir, filepath.FromSlash(to)), same); err != nil {
			return err
		}
	}
	return nil
}

// tree copies a file or folder of sdk.Files. The suffix .tmpl, which keeps a file from being part of this module, is
// taken off.
func tree(from, to string, edit func([]byte) []byte) error {
	return fs.WalkDir(sdk.Files, from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := sdk.Files.ReadFile(path)
		if err != nil {
			return err
		}
		target := strings.TrimSuffix(filepath.Join(to, filepath.FromSlash(strings.TrimPrefix(path, from))), ".tmpl")
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if filepath.Ext(target) == ".sh" {
			mode = 0o755
		}
		return os.WriteFile(target, edit(text), mode)
	})
}
