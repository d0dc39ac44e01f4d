// Package artifact describes a plugin's module as tools exchange it: an OCI artifact with one module, and signatures.
//
// [Pack] makes the OCI manifest of a module, and [ParseManifest] reads one. [Sign] makes a [Signature], and
// [Keys.Verify] checks signatures. The package reads no files and opens no connections. All functions are safe for
// concurrent use.
//
// See docs/decisions/shipping.md
package artifact
