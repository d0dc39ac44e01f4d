// Command manifest embeds a manifest in a plugin: name, version, grants and the schema of the configuration, which the
// relay shows and checks before a deployment. It replaces an earlier manifest of the module.
//
//	go get -tool github.com/edgerelay/edgerelay/sdk/go/manifest
//	go tool manifest plugin.wasm manifest.json
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

const (
	section     = "edgerelay.manifest"
	maxManifest = 64 << 10 // bytes
	headerSize  = 8        // bytes of magic number and version
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manifest <plugin.wasm> <manifest.json>")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "manifest:", err)
		os.Exit(1)
	}
}

func run(module, manifest string) error {
	wasm, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	if wasm, err = embed(wasm, text); err != nil {
		return fmt.Errorf("embed %s in %s: %w", manifest, module, err)
	}
	return os.WriteFile(module, wasm, 0o644)
}

// embed returns the module with the manifest in place of an earlier one.
func embed(wasm, manifest []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	switch err := json.Unmarshal(manifest, &members); {
	case err != nil:
		return nil, fmt.Errorf("the manifest is not a JSON object: %w", err)
	case len(manifest) > maxManifest:
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d", len(manifest), maxManifest)
	case !bytes.HasPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00")):
		return nil, errors.New("not a WebAssembly module")
	}
	out := bytes.Clone(wasm[:headerSize])
	for rest := wasm[headerSize:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil, errors.New("the module ends inside of a section")
		}
		end := 1 + n + int(size)
		if rest[0] != 0 || !isNamed(rest[1+n:end], section) {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
	body := append(binary.AppendUvarint(nil, uint64(len(section))), section...)
	body = append(body, manifest...)
	out = append(out, 0) // a custom section
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...), nil
}

// isNamed reports whether the body of a custom section begins with a name.
func isNamed(body []byte, name string) bool {
	size, n := binary.Uvarint(body)
	return n > 0 && size == uint64(len(name)) && bytes.HasPrefix(body[n:], []byte(name))
}
