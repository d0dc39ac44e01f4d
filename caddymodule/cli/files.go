package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// readFile reads a file that the command line names. what is the noun for the error, such as "module".
func readFile(what, name string) ([]byte, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, unreadable(what, name, err)
	}
	return content, nil
}

// openFile is readFile for a file that is read piece by piece.
func openFile(what, name string) (*os.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, unreadable(what, name, err)
	}
	return file, nil
}

// readModule reads the file of a module.
func readModule(name string) ([]byte, error) {
	if strings.Contains(name, "://") {
		return nil, notAFile(name, "download the module first")
	}
	return readFile("module", name)
}

// notAFile returns the error for a URL in place of a module's file.
func notAFile(name, remedy string) error {
	return usageErrorf("reading the module %q: the command reads no URLs of this kind; %s", name, remedy)
}

// unreadable returns the error for a file that cannot be read, with a remedy.
func unreadable(what, name string, err error) error {
	remedy := "check the file and its file system"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "check the path"
	case errors.Is(err, fs.ErrPermission):
		remedy = "run the command as a user who may read the file"
	case errors.Is(err, syscall.EISDIR):
		remedy = "name a file, not a directory"
	}
	return fmt.Errorf("reading the %s %q: %w; %s", what, name, fileCause(err), remedy)
}

// unwritable returns the error for a file that cannot be written, with a remedy.
func unwritable(what, name string, err error) error {
	remedy := "check the file system"
	switch {
	case errors.Is(err, fs.ErrExist):
		remedy = "choose another name, or move the file away"
	case errors.Is(err, fs.ErrNotExist):
		remedy = "create the directory first"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = "choose a directory that this user may write to"
	case errors.Is(err, syscall.ENOSPC):
		remedy = "free space on the disk"
	case errors.Is(err, syscall.EISDIR):
		remedy = "name a file, not a directory"
	}
	return fmt.Errorf("writing the %s %q: %w; %s", what, name, fileCause(err), remedy)
}

// fileCause returns the cause of a failed operation, without the name of the file and of the system call.
func fileCause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
