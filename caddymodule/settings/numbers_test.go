package settings

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "64KiB": 65536, "64k": 64000, "2GiB": -1, "9EiB": -1, "16EiB": -1, "1e9": -1, "-1": -1, "": -1, "much": -1, "NaN": -1,
		"99999999999999999999999EiB": -1,
	} {
		got, err := ParseSize(text, maxBuffer)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("Size(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	if n, err := ParseSize("1EiB", maxSize); err != nil || n != maxSize {
		t.Errorf("the greatest size is %d, %v", n, err)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "1.5": 1500 * time.Millisecond, "30s": 30 * time.Second, "1d": 24 * time.Hour, "157784760": 157784760 * time.Second,
		"-1": -1, "-1s": -1, "NaN": -1, "Inf": -1, "soon": -1, "": -1, "1e30": -1, "200000d": -1, "99999999999999d": -1, "2562047h": -1,
	} {
		got, err := ParseDuration(text)
		if err != nil {
			got = -1
		}
		if got != caddy.Duration(want) {
			t.Errorf("Duration(%q) = %v, %v; want %v", text, time.Duration(got), err, want)
		}
	}
}

func FuzzUnits(f *testing.F) {
	f.Add("64KiB")
	f.Add("1d")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text, maxSize); err == nil && (n < 0 || n > maxSize) {
			t.Errorf("Size(%q) = %d", text, n)
		}
		if d, err := ParseDuration(text); err == nil && (d < 0 || 3*d < d) {
			t.Errorf("Duration(%q) = %d", text, d)
		}
	})
}
