// Package sdk holds the files that a new plugin begins with: templates, and the SDKs of the four languages. What they are for is in
// the README of each; package scaffold puts them together.
package sdk

import "embed"

// Files are the templates and what they need of the SDKs. The Go SDK is a module of its own, which cannot be embedded: templates/go has
// a copy, kept by scripts/build-plugins.sh.
//
//go:embed templates rust/Cargo.toml rust/src assemblyscript/assembly/index.ts c/edgerelay.h
var Files embed.FS
