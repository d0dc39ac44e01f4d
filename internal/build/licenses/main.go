// Command licenses fills a folder with the terms of a release: LICENSE and NOTICE of this repository, and
// THIRD_PARTY_LICENSES, which has the licenses of all Go modules whose code is in the binary, and of Go itself.
// Archives, packages and the container image have these three files.
//
//	go run ./internal/build/licenses <folder>
//
// Run it from the module's root. Equal texts are written once, below the names of their modules. The result depends on
// go.mod and on the version of Go alone. A module without a license is an error.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// platforms are those of releases, see .goreleaser.yaml.
var platforms = []string{"amd64", "arm64"}

// licenseFile matches the names of files with terms: licenses, and the notices that Apache-2.0 requires to be passed
// on.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([.-].*)?$`)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: licenses <folder>")
		os.Exit(2)
	}
	if err := fill(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// fill writes the files into a folder, which it creates.
func fill(dir string) error {
	text, err := licenses("./caddymodule/cmd/caddy")
	if err != nil {
		return err
	}
	files := map[string][]byte{"THIRD_PARTY_LICENSES": text}
	for _, name := range []string{"LICENSE", "NOTICE"} {
		if files[name], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// listed is what the go command says of a package.
type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// licenses returns the licenses of the modules of a program's packages.
func licenses(program string) ([]byte, error) {
	names := map[string][]string{} // by text
	add := func(name, dir string) (found bool, err error) {
		texts, err := readLicenses(dir)
		for _, text := range texts {
			if !slices.Contains(names[text], name) {
				names[text] = append(names[text], name)
			}
		}
		return len(texts) > 0, err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	if found, err := add("Go, the standard library and the runtime", strings.TrimSpace(string(goroot))); err != nil || !found {
		return nil, errors.Join(errors.New("the installation of Go has no license; use one of go.dev"), err)
	}
	for _, arch := range platforms {
		packages, err := list(arch, program)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			name, found := p.Module.Path+" "+p.Module.Version, false
			for _, dir := range dirsBetween(p.Module.Dir, p.Dir) {
				has, err := add(name, dir)
				if err != nil {
					return nil, err
				}
				found = found || has
			}
			if !found {
				return nil, fmt.Errorf("module %s has no file with a license", name)
			}
		}
	}
	return format(names), nil
}

// list returns the packages of other modules that are in a program.
func list(arch, program string) (packages []listed, err error) {
	cmd := exec.Command("go", "list", "-deps", "-tags=nobadger,nomysql,nopgx", "-json=Dir,Standard,Module", program)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		if !p.Standard && p.Module != nil && !p.Module.Main {
			packages = append(packages, p)
		}
	}
}

// dirsBetween lists a module's folder and the folders down to a package: parts of a module may have licenses of their
// own.
func dirsBetween(module, dir string) (dirs []string) {
	for ; len(dir) > len(module); dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return append(dirs, module)
}

// readLicenses returns the texts of a folder.
func readLicenses(dir string) (texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenseFile.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
	}
	return texts, nil
}

// format writes each text once, below the names of its modules.
func format(names map[string][]string) []byte {
	for _, list := range names {
		slices.Sort(list)
	}
	texts := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return strings.Compare(names[a][0]+a, names[b][0]+b)
	})
	var b bytes.Buffer
	b.WriteString("The binary of edgerelay contains code of these modules, under the licenses below their names. edgerelay's own\n" +
		"license is in the file LICENSE.\n")
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(names[text], "\n"), text)
	}
	return b.Bytes()
}
