package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// groupPage is a page of GET /edgerelay/groups, and the JSON of `group list`, without Next.
type groupPage struct {
	Total  int           `json:"total"`
	Groups []admin.Group `json:"groups"`
	Next   string        `json:"next,omitempty"`
}

// connectionPage is a page of GET /edgerelay/connections, and the JSON of `connection list`, without Next.
type connectionPage struct {
	Total       int                `json:"total"`
	Connections []admin.Connection `json:"connections"`
	Next        uint32             `json:"next,omitempty"`
}

const (
	// defaultListed is the default of --limit, as for pages of the admin API.
	defaultListed = 100
	// maxPage is the length of the longest page of the admin API.
	maxPage = 1000
)

// addLimitFlag adds the flag --limit to a command that lists.
func addLimitFlag(cmd *cobra.Command, what string) *int {
	return cmd.Flags().Int("limit", defaultListed, "list at most this many "+what)
}

// addSortFlag adds the flag --sort. The first order is the default.
func addSortFlag(cmd *cobra.Command, orders ...string) *string {
	sort := cmd.Flags().String("sort", orders[0], fmt.Sprintf("order of the list: %q", orders))
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(orders, cobra.ShellCompDirectiveNoFileComp))
	allow(cmd, "sort", orders...)
	return sort
}

// collectPages gets pages of a list until there are limit entries, or all. take stores the entries of a page. It
// returns their number, and the parameter after for the next page; "" is the last.
func collectPages[P any](ctx context.Context, address, path string, q url.Values, limit int,
	take func(*P) (entries int, next string),
) error {
	if limit < 1 {
		return usageErrorf("--limit: invalid number %d; use at least 1", limit)
	}
	for limit > 0 {
		q.Set("limit", itoa(min(limit, maxPage)))
		var page P
		if err := getAdmin(ctx, address, path+"?"+q.Encode(), &page); err != nil {
			return err
		}
		entries, next := take(&page)
		if limit -= entries; next == "" || entries == 0 {
			return nil
		}
		q.Set("after", next)
	}
	return nil
}

// callJSON calls the admin API with a body, and decodes the response.
func callJSON(ctx context.Context, address, path string, body, result any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return callAdmin(ctx, address, http.MethodPost, path, text, result)
}

func itoa[N int | uint32](n N) string { return strconv.FormatInt(int64(n), 10) }
