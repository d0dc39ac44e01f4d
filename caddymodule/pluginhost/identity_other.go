//go:build !linux

package pluginhost

import "io/fs"

// identity distinguishes files with equal sizes and modification times where the system has a number for it.
type identity struct{}

func identityOf(fs.FileInfo) identity { return identity{} }
