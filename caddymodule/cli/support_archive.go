package cli

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// bundleExists is the error for a file that exists: a bundle replaces none.
func bundleExists(name string) error {
	return fmt.Errorf("writing the bundle: %s exists; choose another file with --output", name)
}

// write writes the archive to a new file, and returns its size.
func (b *bundle) write(name string) (size int64, err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return 0, bundleExists(name)
	}
	if err != nil {
		return 0, unwritable("bundle", name, err)
	}
	err = b.archive(f)
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return 0, unwritable("bundle", name, errors.Join(err, os.Remove(name)))
	}
	return info.Size(), nil
}

// archive writes the archive, with the README first.
func (b *bundle) archive(w io.Writer) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	folder := "edgerelay-support/"
	for _, f := range append([]bundleFile{{name: "README.txt", content: []byte(b.readme())}}, b.files...) {
		err := t.WriteHeader(&tar.Header{
			Name: folder + f.name, Mode: 0o600, Size: int64(len(f.content)), ModTime: b.made.Truncate(time.Second),
		})
		if err == nil {
			_, err = t.Write(f.content)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// readme returns the text that explains the bundle.
func (b *bundle) readme() string {
	var w strings.Builder
	fmt.Fprintf(&w, "edgerelay support bundle, made at %s\n\n", b.made.UTC().Format(time.RFC3339))
	for _, f := range b.files {
		fmt.Fprintf(&w, "%-18s %s\n", f.name, f.about)
	}
	w.WriteString("\nSecrets\n\n" +
		"config.json shows only settings that are known to hold no secret, without credentials in URLs, and placeholders\n" +
		"such as {env.NAME}. All other texts are " + redacted + ". Every file was searched for the values of secret\n" +
		"settings, of credentials in URLs and of placeholders, also URL-encoded, in JSON, HTML, Base64 and hexadecimal\n" +
		"digits. A file with a match is left out.\n\n" +
		"Names of groups, plugins, nodes and hosts are shown. Read the files before you pass them on.\n\nLeft out\n\n")
	if len(b.leftOut) == 0 {
		w.WriteString("nothing\n")
	}
	for _, l := range b.leftOut {
		fmt.Fprintf(&w, "%s: %s\n", l.File, printable(l.Reason))
	}
	return w.String()
}
