package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
)

var (
	descUWSGIFiles = desc("uwsgi_temp_files_total",
		"Temporary files of transport uwsgi, for bodies that exceed memory.", "body")
	descUWSGIOpen     = desc("uwsgi_open_temp_files", "Temporary files of transport uwsgi that are open.")
	descUWSGIFailures = desc("uwsgi_temp_file_failures_total",
		"Bodies that transport uwsgi could not put into a temporary file.")
)

// collectTransport shows the figures of transport uwsgi.
func collectTransport(gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64,
	...string),
) {
	f := uwsgi.Files()
	count(descUWSGIFiles, uint64(f.RequestFiles), "request")
	count(descUWSGIFiles, uint64(f.ResponseFiles), "response")
	gauge(descUWSGIOpen, float64(f.OpenFiles))
	count(descUWSGIFailures, uint64(f.Failures))
}
