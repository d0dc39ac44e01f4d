package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// adminAddress gives a command the flag that says where the relay's admin API is.
func adminAddress(cmd *cobra.Command) *string {
	return cmd.Flags().String("address", "", "the address of Caddy's admin API, such as localhost:2019 or unix/"+adminSocket+
		"; default: $CADDY_ADMIN, else unix/"+adminSocket+" if it exists, else "+defaultAdmin)
}

// adminError is an answer of the admin API that says no.
type adminError struct {
	status  int
	message string
	body    []byte
}

func (e *adminError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the admin API answered %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("%s (HTTP %d)", printable(e.message), e.status)
}

// maxAdminError is how much of an error's body is read, in bytes.
const maxAdminError = 1 << 20

// requestAdmin sends a request to the admin API, on a connection of its own. address is the value of --address. A
// status of 400 or more is an [adminError]. Caddy's own AdminAPIRequest flattens such an answer into a text, with its
// JSON in it.
func requestAdmin(address, method, path string, body []byte) (*http.Response, error) {
	contentType := "application/json"
	if method == http.MethodPut { // only modules of plugins are put
		contentType = "application/wasm"
	}
	place := lookForAdmin(address)
	at, err := caddy.ParseNetworkAddress(place.address)
	if err != nil || at.PortRangeSize() > 1 {
		return nil, fmt.Errorf("%q is not an address of the admin API (%s); "+
			"write it like localhost:2019 or unix/%s", place.address, place.found, adminSocket)
	}
	host := at.JoinHostPort(0)
	if at.IsUnixNetwork() {
		at.Host, _, _ = strings.Cut(at.Host, "|") // the socket's mode, as in Caddy's configuration
		host = "127.0.0.1"
	} else if at.IsFdNetwork() {
		host = "127.0.0.1"
	}
	req, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the admin API at %s: %w", place.address, err)
	}
	req.Close = true
	if !at.IsUnixNetwork() && !at.IsFdNetwork() {
		req.Header.Set("Origin", "http://"+host)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, at.Network, at.JoinHostPort(0))
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, place.unreachable(err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	refusal := &adminError{status: resp.StatusCode}
	refusal.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAdminError))
	var answer struct{ Error string }
	if json.Unmarshal(refusal.body, &answer) == nil {
		refusal.message = answer.Error
	} else {
		refusal.message = strings.TrimSpace(string(refusal.body))
	}
	return nil, refusal
}

// askAdmin sends a request to the admin API and reads the JSON of the answer.
func askAdmin(address, method, path string, body []byte, answer any) error {
	resp, err := requestAdmin(address, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("the answer of %s%s cannot be read: %w", address, path, err)
	}
	return nil
}

// getAdmin reads a JSON answer of the admin API.
func getAdmin(address, path string, answer any) error {
	return askAdmin(address, http.MethodGet, path, nil, answer)
}

// printable makes a text from outside, such as a user's name, safe for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, text)
}
