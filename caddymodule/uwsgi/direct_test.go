package uwsgi

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for url, want := range map[string]string{
		"uwsgi://127.0.0.1:8050":           "tcp 127.0.0.1:8050",
		"uwsgi://awx-web:8050/":            "tcp awx-web:8050",
		"uwsgi://[::1]:8050":               "tcp [::1]:8050",
		"uwsgi+unix:///run/awx/uwsgi.sock": "unix /run/awx/uwsgi.sock",
		"uwsgi+unix//run/awx/uwsgi.sock":   "unix /run/awx/uwsgi.sock",
	} {
		network, address, ok, err := ParseAddress(url)
		if got := network + " " + address; !ok || err != nil || got != want {
			t.Errorf("%s: %s (%t, %v), want %s", url, got, ok, err, want)
		}
	}
	for _, url := range []string{
		"uwsgi://", "uwsgi://127.0.0.1", "uwsgi://:8050", "uwsgi://127.0.0.1:0", "uwsgi://127.0.0.1:65536", "uwsgi://127.0.0.1:8050/awx",
		"uwsgi://alice:hunter2@127.0.0.1:8050", "uwsgi://127.0.0.1:8050?hunter2", "uwsgi://ht!tp://hunter2", "uwsgi+unix://", "uwsgi+unix:///",
		"uwsgi+unix://run/uwsgi.sock", "uwsgi+unix:run/uwsgi.sock", "uwsgi+unix://host/run/hunter2.sock",
	} {
		if network, address, ok, err := ParseAddress(url); !ok || err == nil {
			t.Errorf("%s: %s %s (%t)", url, network, address, ok)
		} else if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "uwsgi://127.0.0.1:8050") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "http://127.0.0.1:8054", "127.0.0.1:8050", "UWSGI", "unix//run/uwsgi.sock"} {
		if network, address, ok, err := ParseAddress(url); ok || err != nil {
			t.Errorf("%s: %s %s (%v)", url, network, address, err)
		}
	}
}
