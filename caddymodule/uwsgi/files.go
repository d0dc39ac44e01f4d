package uwsgi

import (
	"os"
	"sync/atomic"
)

// Figures counts the temporary files of all transports of the process.
type FileStats struct {
	// RequestFiles and ResponseFiles are the files that were created for bodies, Failures those that could not be
	// created or written, and OpenFiles those that are open.
	RequestFiles, ResponseFiles, Failures, OpenFiles int64
}

// files are the figures as they grow.
var files struct{ request, response, failures, open atomic.Int64 }

// Files returns the figures. It may be called at any time.
func ReadFileStats() FileStats {
	return FileStats{files.request.Load(), files.response.Load(), files.failures.Load(), files.open.Load()}
}

// tempFile creates a file that has no name any more, and counts it.
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

// closeFile closes a file of tempFile, which frees its space.
func closeFile(f *os.File) {
	f.Close()
	files.open.Add(-1)
}
