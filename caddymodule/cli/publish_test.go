package cli

import (
	"strings"
	"testing"
)

// The error about data on standard input names standard input, not the flag.
func TestPublishReadsStandardInput(t *testing.T) {
	for _, c := range []struct{ name, flag, stdin, want, err string }{
		{"flag", `{"a": 1}`, "", `{"a": 1}`, ""},
		{"pipe", "-", "{\"a\": 1}\n", "{\"a\": 1}\n", ""},
		{"no JSON", "x", "", "", `--data is not JSON; write a string with quotes`},
		{"empty pipe", "-", "", "", "standard input is empty; pipe JSON into the command"},
		{"blank pipe", "-", " \n", "", "standard input is empty; pipe JSON into the command"},
		{"no JSON in the pipe", "-", "x", "", "standard input is not JSON; write a string with quotes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readData(c.flag, strings.NewReader(c.stdin))
			switch {
			case c.err == "" && err != nil, got != c.want:
				t.Errorf("got %q, %v", got, err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || exitCode(err) != exitUsage):
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// The relay's error about members of the data is shown as it is, as an error of the command line.
func TestPublishShowsTheRelaysError(t *testing.T) {
	address := site(t, 400, "application/json", `{"error": "binary: the data have no member \"zz\""}`)
	execute(t, "publish", "-g", "x", "-t", "a", "-d", "{}", "--binary", "zz", "--address", address).
		wantError(t, exitUsage, `error: binary: the data have no member "zz" (HTTP 400)`)
}
