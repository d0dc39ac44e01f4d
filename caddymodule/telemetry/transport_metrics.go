package telemetry

import (
	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
)

var (
	descUWSGIFiles = desc("uwsgi_temp_files_total",
		"Temporary files of transport uwsgi, for bodies that exceed memory.", "body")
	descUWSGIOpen     = desc("uwsgi_open_temp_files", "Temporary files of transport uwsgi that are open.")
	descUWSGIFailures = desc("uwsgi_temp_file_failures_total",
		"Bodies that transport uwsgi could not put into a temporary file.")
)

// collectTransport collects the metrics of transport uwsgi, which all sites of the process share.
func collectTransport(out sink) {
	f := uwsgi.ReadFileStats()
	out.count(descUWSGIFiles, uint64(f.RequestFiles), "request")
	out.count(descUWSGIFiles, uint64(f.ResponseFiles), "response")
	out.gauge(descUWSGIOpen, float64(f.OpenFiles))
	out.count(descUWSGIFailures, uint64(f.Failures))
}
