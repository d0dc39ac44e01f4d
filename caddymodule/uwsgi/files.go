package uwsgi

import (
	"os"
	"sync/atomic"
)

// FileStats counts the temporary files of all transports of the process.
type FileStats struct {
	// RequestFiles and ResponseFiles are the numbers of files created for request and response bodies.
	RequestFiles, ResponseFiles int64
	// Failures is the number of files that could not be created or written.
	Failures int64
	// OpenFiles is the number of files that are open now.
	OpenFiles int64
}

// files are the live counters behind [ReadFileStats].
var files struct{ request, response, failures, open atomic.Int64 }

// ReadFileStats returns the current counts. It is safe for concurrent use.
func ReadFileStats() FileStats {
	return FileStats{files.request.Load(), files.response.Load(), files.failures.Load(), files.open.Load()}
}

// tempFile creates and counts a temporary file. The file is unlinked at once, so no crash leaves it on the disk.
func (t *Transport) tempFile(counter *atomic.Int64) (*os.File, error) {
	f, err := os.CreateTemp(t.TempDir, "edgerelay-uwsgi-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	counter.Add(1)
	files.open.Add(1)
	return f, nil
}

// closeFile closes a file from tempFile. Since the file is unlinked, closing frees the disk space.
func closeFile(f *os.File) {
	f.Close()
	files.open.Add(-1)
}
