package webhttp

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Bounds of the state that a backend may keep with a connection.
const (
	maxMeta     = 64
	maxMetaSize = 16 << 10
)

var errMeta = errors.New("too much meta: the headers Set-Meta-… of a connection may have 64 names and 16 KiB")

// pair is a name and a value.
type pair struct{ name, value string }

// updateMeta applies the headers Set-Meta-… of an answer to the state of a connection. An empty value removes a name.
func updateMeta(meta []pair, h http.Header) ([]pair, error) {
	for _, header := range sortedNames(h) {
		name, ok := strings.CutPrefix(header, "Set-Meta-")
		if !ok || name == "" {
			continue
		}
		meta = slices.DeleteFunc(meta, func(p pair) bool { return p.name == name })
		if value := h[header][len(h[header])-1]; value != "" {
			meta = append(meta, pair{strings.Clone(name), strings.Clone(value)})
		}
	}
	size := 0
	for _, p := range meta {
		size += len(p.name) + len(p.value)
	}
	if len(meta) > maxMeta || size > maxMetaSize {
		return nil, errMeta
	}
	return meta, nil
}

func sortedNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
