package uwsgi

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"uwsgi":      `{}`,
		"uwsgi {\n}": `{}`,
		`uwsgi {
			root /srv
			script_name /awx
			env A "b {c}"
			env D ""
			keep_slashes
			modifier1 5
			modifier2 1
			dial_timeout 1s
			read_timeout 125s
			write_timeout 2m
			request_memory 1MiB
			request_disk 0
			unbuffered
			response_memory 128KiB
			response_disk 2GiB
			max_response_header 8KiB
			temp_dir /var/tmp
		}`: `{"root":"/srv","script_name":"/awx","env":{"A":"b {c}","D":""},` +
			`"keep_slashes":true,"modifier1":5,"modifier2":1,` +
			`"dial_timeout":1000000000,"read_timeout":125000000000,"write_timeout":120000000000,` +
			`"request_memory":1048576,"request_disk":0,` +
			`"unbuffered":true,"response_memory":131072,"response_disk":2147483648,` +
			`"max_response_header":8192,"temp_dir":"/var/tmp"}`,
	} {
		var transport Transport
		if err := transport.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := json.Marshal(&transport); string(got) != want || err != nil {
			t.Errorf("%s:\ngot  %s (%v)\nwant %s", text, got, err, want)
		}
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	for text, want := range map[string]string{
		"uwsgi 127.0.0.1":                      "wrong argument count",
		"uwsgi {\nroot\n}":                     "takes one value",
		"uwsgi {\nroot a b\n}":                 "takes one value",
		"uwsgi {\nenv A\n}":                    "a name and a value",
		"uwsgi {\nunbuffered off\n}":           "takes no value",
		"uwsgi {\nbuffer 1\n}":                 "no setting",
		"uwsgi {\nmodifier1 256\n}":            "use 0 to 255",
		"uwsgi {\nread_timeout long\n}":        "such as 30s",
		"uwsgi {\nread_timeout -5s\n}":         "such as 30s",
		"uwsgi {\nrequest_memory many\n}":      "many",
		"uwsgi {\nrequest_disk 9EiB\n}":        "at most",
		"uwsgi {\nrequest_memory 1GiB\n}":      "use at most 64MiB",
		"uwsgi {\nscript_name awx\n}":          "begin with a slash",
		"uwsgi {\nenv A=B c\n}":                "variable's name",
		"uwsgi {\nenv CONTENT_LENGTH 5\n}":     "remove it",
		"uwsgi {\ntemp_dir /nowhere/at/all\n}": "create it",
	} {
		transport := new(Transport)
		err := transport.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		if err == nil {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			if err = transport.Provision(ctx); err == nil {
				err = transport.Validate()
			}
			cancel()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
}
