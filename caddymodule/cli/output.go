package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// addJSONFlag adds the flag --json to a command.
func addJSONFlag(cmd *cobra.Command) *bool { return cmd.Flags().Bool("json", false, jsonUsage) }

// jsonUsage is the help of the flag --json.
const jsonUsage = "print JSON, as docs/commands.md describes"

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// writeJSONLine writes a value as a line of JSON.
func writeJSONLine(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// printRaw prints a JSON response of the admin API as it is, in a line.
func printRaw(raw json.RawMessage) error {
	_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(string(raw)))
	return err
}

// printAdmin gets a path of the admin API, and prints the response: as it is with asJSON, else by write.
func printAdmin[T any](ctx context.Context, address, path string, asJSON bool, write func(w io.Writer, v *T) error) error {
	var raw json.RawMessage
	if err := getAdmin(ctx, address, path, &raw); err != nil {
		return err
	}
	if asJSON {
		return printRaw(raw)
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return mismatch(path, err)
	}
	return write(os.Stdout, &v)
}

// printAdminList is printAdmin for a response that is a list. The JSON of a command is an object, to which later
// versions can add members; the list is the given member of it.
func printAdminList[T any](ctx context.Context, address, path, member string, asJSON bool, write func(w io.Writer, list []T) error) error {
	var raw json.RawMessage
	if err := getAdmin(ctx, address, path, &raw); err != nil {
		return err
	}
	if asJSON {
		return printJSON(os.Stdout, map[string]json.RawMessage{member: raw})
	}
	var list []T
	if err := json.Unmarshal(raw, &list); err != nil {
		return mismatch(path, err)
	}
	return write(os.Stdout, list)
}

// table writes rows in columns. The first row are the headings.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, headings ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(headings...)
	return t
}

// row writes a row. Empty cells show "-".
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cells[i] = printable(cell); cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) flush() error { return t.w.Flush() }
