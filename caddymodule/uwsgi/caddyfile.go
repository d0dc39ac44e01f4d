package uwsgi

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// UnmarshalCaddyfile reads
//
//	transport uwsgi {
//		root                <path>
//		script_name         <path>
//		env                 <name> <value>
//		keep_slashes
//		modifier1           <0 to 255>
//		modifier2           <0 to 255>
//		dial_timeout        <duration>
//		read_timeout        <duration>
//		write_timeout       <duration>
//		request_memory      <size>
//		request_disk        <size>
//		unbuffered
//		response_memory     <size>
//		response_disk       <size>
//		max_response_header <size>
//		temp_dir            <directory>
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the transport's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		name := d.Val()
		args := d.RemainingArgs()
		want := 1
		switch name {
		case "env":
			want = 2
		case "keep_slashes", "unbuffered":
			want = 0
		}
		if len(args) != want {
			return d.ArgErr()
		}
		if err := t.set(d, name, args); err != nil {
			return err
		}
	}
	return nil
}

func (t *Transport) set(d *caddyfile.Dispenser, name string, args []string) error {
	switch name {
	case "root":
		t.Root = args[0]
	case "script_name":
		t.ScriptName = args[0]
	case "temp_dir":
		t.TempDir = args[0]
	case "env":
		if t.Env == nil {
			t.Env = map[string]string{}
		}
		t.Env[args[0]] = args[1]
	case "keep_slashes":
		t.KeepSlashes = true
	case "unbuffered":
		t.Unbuffered = true
	case "modifier1":
		return setModifier(d, &t.Modifier1, args[0])
	case "modifier2":
		return setModifier(d, &t.Modifier2, args[0])
	case "dial_timeout":
		return setDuration(d, &t.DialTimeout, args[0])
	case "read_timeout":
		return setDuration(d, &t.ReadTimeout, args[0])
	case "write_timeout":
		return setDuration(d, &t.WriteTimeout, args[0])
	case "request_memory":
		return setSize(d, &t.RequestMemory, args[0])
	case "response_memory":
		return setSize(d, &t.ResponseMemory, args[0])
	case "max_response_header":
		return setSize(d, &t.MaxResponseHeader, args[0])
	case "request_disk":
		t.RequestDisk = new(int64)
		return setSize(d, t.RequestDisk, args[0])
	case "response_disk":
		t.ResponseDisk = new(int64)
		return setSize(d, t.ResponseDisk, args[0])
	default:
		return d.Errf("unknown setting %q of transport uwsgi; see docs/uwsgi.md", name)
	}
	return nil
}

func setModifier(d *caddyfile.Dispenser, to *uint8, text string) error {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return d.Errf("invalid modifier %q; use a number from 0 to 255", text)
	}
	*to = uint8(n)
	return nil
}

func setDuration(d *caddyfile.Dispenser, to *caddy.Duration, text string) error {
	duration, err := settings.PositiveDuration(text)
	if err != nil {
		return d.Errf("invalid duration %q: %v", text, err)
	}
	*to = duration
	return nil
}

func setSize(d *caddyfile.Dispenser, to *int64, text string) error {
	size, err := settings.Size(text, settings.MaxSize)
	if err != nil {
		return d.Err(err.Error())
	}
	*to = size
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Transport)(nil)
