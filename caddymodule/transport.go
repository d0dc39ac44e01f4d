package caddymodule

// The transport that reverse_proxy uses for uWSGI.
import _ "github.com/edgerelay/edgerelay/caddymodule/uwsgi"
