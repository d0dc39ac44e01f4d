package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// addAddressFlag adds the flag --address to a command.
func addAddressFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("address", "", "address of Caddy's admin API, such as localhost:2019 or unix/"+
		adminSocket+"; default: $CADDY_ADMIN, else unix/"+adminSocket+" if the socket exists, else "+defaultAdmin)
}

// adminError is a response of the admin API with a status of 400 or more.
type adminError struct {
	status  int
	message string
	body    []byte
}

func (e *adminError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the admin API returned %d %s", e.status, http.StatusText(e.status))
	}
	lines := strings.Split(strings.TrimSpace(e.message), "\n")
	return fmt.Sprintf("%s (HTTP %d)", printable(strings.Join(lines, "; ")), e.status)
}

// maxErrorBytes is the part of an error's body that is read.
const maxErrorBytes = 1 << 20

// requestAdmin sends a request to the admin API, on a connection of its own. address is the value of --address. A
// status of 400 or more is an [adminError], if the admin API responds and not another program. Caddy's own
// AdminAPIRequest would put the JSON of such a response into the error text.
func requestAdmin(ctx context.Context, address, method, path string, body []byte) (*http.Response, error) {
	return sendAdmin(ctx, address, method, path, nil, body)
}

// sendAdmin is requestAdmin with further headers, which replace the defaults. The request ends with ctx, as does reading
// the response, and when the admin API is silent for longer than [silenceLimit].
func sendAdmin(
	ctx context.Context, address, method, path string, header http.Header, body []byte,
) (*http.Response, error) {
	admin := resolveAdmin(address)
	at, err := admin.parse()
	if err != nil {
		return nil, err
	}
	req, err := newAdminRequest(&at, method, path, body)
	if err != nil {
		return nil, fmt.Errorf("calling the admin API at %s: %w", admin.shown(), err)
	}
	maps.Copy(req.Header, header)
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, at.Network, at.JoinHostPort(0))
			},
		},
		// The admin API redirects no request. A site does, for example to TLS.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	watched := watchSilence(ctx, admin, method, path)
	resp, err := client.Do(req.WithContext(watched.ctx))
	if err != nil {
		err = watched.failure(err)
		watched.end()
		return nil, err
	}
	resp.Body = watched.body(resp)
	if resp.StatusCode >= 400 {
		return nil, admin.readError(path, resp)
	}
	if !fromAdmin(path, resp) {
		_ = resp.Body.Close()
		return nil, admin.noAdmin(describeResponse(resp))
	}
	return resp, nil
}

// newAdminRequest returns a request that passes Caddy's check of Host and Origin. It removes the socket's mode from at.
func newAdminRequest(at *caddy.NetworkAddress, method, path string, body []byte) (*http.Request, error) {
	host, local := at.JoinHostPort(0), at.IsUnixNetwork() || at.IsFdNetwork()
	if at.IsUnixNetwork() {
		at.Host, _, _ = strings.Cut(at.Host, "|") // the mode of the socket, as in Caddy's configuration
	}
	if local {
		host = "127.0.0.1"
	}
	req, err := http.NewRequest(method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Close = true
	if !local {
		req.Header.Set("Origin", "http://"+host)
	}
	switch {
	case body == nil:
	case method == http.MethodPut: // a plugin's module, unless the caller says otherwise
		req.Header.Set("Content-Type", "application/wasm")
	default:
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// callAdmin sends a request to the admin API and decodes the response, which is JSON.
func callAdmin(ctx context.Context, address, method, path string, body []byte, result any) error {
	return decodeAdmin(ctx, address, method, path, nil, body, result)
}

// decodeAdmin is callAdmin with further headers.
func decodeAdmin(ctx context.Context, address, method, path string, header http.Header, body []byte, result any) error {
	resp, err := sendAdmin(ctx, address, method, path, header, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decodeResponse(address, path, resp.Body, result)
}

// getAdmin sends a GET request to the admin API and decodes the response.
func getAdmin(ctx context.Context, address, path string, result any) error {
	return callAdmin(ctx, address, http.MethodGet, path, nil, result)
}

// printableLines is printable for a text of several lines: line breaks and tabs stay.
func printableLines(text string) string {
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	for i, line := range lines {
		columns := strings.Split(line, "\t")
		for j, column := range columns {
			columns[j] = printable(column)
		}
		lines[i] = strings.Join(columns, "\t")
	}
	return strings.Join(lines, "\n")
}

// printable replaces control characters in a text from outside, such as a user's name, so that the text is safe on a
// terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, text)
}
