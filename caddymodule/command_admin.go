package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// adminAddress gives a command the flag that says where the relay's admin API is.
func adminAddress(cmd *cobra.Command) *string {
	return cmd.Flags().String("address", "localhost:2019", "the address of Caddy's admin API")
}

// requestAdmin sends a request to the admin API, on a connection of its own. An answer of 400 or more is an error.
func requestAdmin(address, method, path string, body []byte) (*http.Response, error) {
	resp, err := caddycmd.AdminAPIRequest(address, method, path, http.Header{"Connection": {"close"}}, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w (is the relay running, and its admin API at %s? --address names another)", err, address)
	}
	return resp, nil
}

// getAdmin reads a JSON answer of the admin API.
func getAdmin(address, path string, answer any) error {
	resp, err := requestAdmin(address, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("the answer of %s%s cannot be read: %w", address, path, err)
	}
	return nil
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
