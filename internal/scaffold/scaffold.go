// Package scaffold writes new plugin projects, for `caddy edgerelay plugin new`.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/sdk"
)

// languages maps each language to the files of the SDK: from a file or folder of sdk.Files to a place in the project.
var languages = map[string]map[string]string{
	"go":             {}, // the SDK is in the template
	"rust":           {"rust": "edgerelay"},
	"assemblyscript": {"assemblyscript": "edgerelay"},
	"c":              {"c": "."},
}

// Languages returns the supported languages in the order of display.
func Languages() []string { return []string{"go", "rust", "assemblyscript", "c"} }

var validName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// Kinds of projects.
const (
	Filter   = "filter"   // of events
	Function = "function" // for the clients of a route
)

// Kinds returns the kinds of projects.
func Kinds() []string { return []string{Filter, Function} }

// ErrNoDirectory is returned by [New] if the name of the directory is empty, as that of an unset variable of a shell
// is.
var ErrNoDirectory = errors.New("create the project: the name of the directory is empty; name a new directory")

// New writes a plugin project of a kind in lang to dir, which must be empty or missing: SDK, golden samples, a
// Caddyfile for trying the plugin, a README, and for a function a page. An empty name means the last element of dir.
// After an invalid argument nothing is written.
func New(kind, lang, dir, name string) error {
	parts, ok := languages[lang]
	if !ok {
		return fmt.Errorf("unsupported language %q; use %s", lang, strings.Join(Languages(), ", "))
	}
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("unsupported kind %q; use %s", kind, strings.Join(Kinds(), " or "))
	}
	// An empty directory must not come further: joined with the path of a file, it is the root of the file system.
	if dir == "" {
		return ErrNoDirectory
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("create the project: %w", err)
	}
	if name == "" {
		name = filepath.Base(dir)
	}
	if !validName.MatchString(name) {
		return fmt.Errorf("invalid plugin name %q; use 1 to 64 letters, digits, - and _, beginning with a letter", name)
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("%s is not empty; name a new directory", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("create the project: %w", err)
	}
	if err := write(kind, lang, dir, name, parts); err != nil {
		return fmt.Errorf("create the project: %w", err)
	}
	return nil
}

// write copies the templates and the SDK to dir.
func write(kind, lang, dir, name string, parts map[string]string) error {
	fill := func(text []byte) []byte { return []byte(strings.ReplaceAll(string(text), "{{name}}", name)) }
	unchanged := func(text []byte) []byte { return text }
	templates := []string{"templates/common", "templates/" + lang}
	if kind == Function { // whose files replace those of a filter
		templates = []string{"templates/" + lang, "templates/function/common", "templates/function/" + lang}
	}
	for _, from := range templates {
		if err := copyTree(from, dir, fill); err != nil {
			return err
		}
	}
	for from, to := range parts {
		if err := copyTree(from, filepath.Join(dir, filepath.FromSlash(to)), unchanged); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies a file or folder of sdk.Files, and removes the suffix .tmpl, which keeps a file from being part of
// this module.
func copyTree(from, to string, edit func([]byte) []byte) error {
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
		if filepath.Ext(target) == ".sh" || filepath.Base(filepath.Dir(target)) == "bin" {
			mode = 0o755
		}
		return os.WriteFile(target, edit(text), mode)
	})
}
