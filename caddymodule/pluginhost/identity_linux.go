package pluginhost

import (
	"io/fs"
	"syscall"
)

// identity distinguishes files with equal sizes and modification times: a rename changes the inode, and a write changes
// the time of the inode's change, which no program can set.
type identity struct {
	inode   uint64
	changed syscall.Timespec
}

func identityOf(info fs.FileInfo) identity {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return identity{s.Ino, s.Ctim}
	}
	return identity{}
}
