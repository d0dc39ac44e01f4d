package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/internal/scaffold"
	"github.com/edgerelay/edgerelay/plugins"
)

// completionTimeout bounds the requests of a completion: a shell waits for them.
const completionTimeout = time.Second

// maxCompletions bounds the number of completions from the relay.
const maxCompletions = 200

// completer lists the completions of a word. address is that of the admin API.
type completer func(ctx context.Context, address, word string) ([]string, cobra.ShellCompDirective)

// completeList completes a word from a fixed list.
func completeList(words ...string) completer {
	return func(context.Context, string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFiles completes names of files with an extension.
func completeFiles(extensions ...string) completer {
	return func(context.Context, string, string) ([]string, cobra.ShellCompDirective) {
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// completeAny completes names of any file, as shells do by themselves.
func completeAny(context.Context, string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func completeDirectories(context.Context, string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// argumentCompleters complete the arguments of commands, by the argument's name in the usage.
var argumentCompleters = map[string]completer{
	"group":             completeGroups,
	"name":              completePlugins,
	"file.wasm":         completeFiles("wasm"),
	"file.wasm|oci://…": completeFiles("wasm"),
	"samples.ndjson|-":  completeFiles("ndjson"),
	"recording|-":       completeFiles("ndjson"),
	"manifest.json":     completeFiles("json"),
	"directory":         completeDirectories,
}

// flagCompleters complete the values of flags, by the flag's name.
var flagCompleters = map[string]completer{
	"group":    completeGroups,
	"plugin":   completePlugins,
	"user":     completeUsers,
	"language": completeList(scaffold.Languages()...),
	"lang":     completeList(scaffold.Languages()...),
	"kind":     completeList(scaffold.Kinds()...),
	"on-error": completeList(string(plugins.OnErrorWithhold), string(plugins.OnErrorPass), string(plugins.OnErrorDrop),
		string(plugins.OnErrorLastGood)),
	"against": completeFiles("wasm"),
	"config":  completeAny,
	"adapter": completeList("caddyfile"),
	"ca":      completeFiles("pem", "crt"),
	"output":  completeAny,
	"record":  completeAny,
}

// addCompletions lets the shell complete arguments and flags of a command.
func addCompletions(cmd *cobra.Command) {
	arguments := argumentNames(cmd.Use)
	if cmd.Name() == "keygen" {
		arguments = nil // the name of a new key
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(arguments) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		name := strings.TrimSuffix(arguments[min(len(args), len(arguments)-1)], "...")
		repeated := strings.HasSuffix(arguments[len(arguments)-1], "...")
		complete := argumentCompleters[name]
		if complete == nil || len(args) >= len(arguments) && !repeated {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd.Context(), addressOf(cmd), word)
	}
	for name, complete := range flagCompleters {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		// The only error is that the flag has a completion already.
		_ = cmd.RegisterFlagCompletionFunc(name,
			func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return complete(cmd.Context(), addressOf(cmd), word)
			})
	}
}

// argumentNames returns the names of the arguments in a usage, without the values of flags: "group..." for
// `tail <group>... | tail --plugin <name>`.
func argumentNames(use string) (names []string) {
	use, _, _ = strings.Cut(use, " | ")
	flag := false
	for _, word := range strings.Fields(use)[1:] {
		isFlag := strings.HasPrefix(strings.TrimPrefix(word, "["), "--")
		if name, ok := strings.CutPrefix(word, "<"); ok && !flag {
			name, rest, _ := strings.Cut(name, ">")
			if rest != "..." {
				rest = ""
			}
			names = append(names, name+rest)
		}
		flag = isFlag && !strings.HasSuffix(word, "]")
	}
	return names
}

// addressOf returns the value of --address.
func addressOf(cmd *cobra.Command) string {
	address, _ := cmd.Flags().GetString("address")
	return address
}

// completeFrom asks the admin API. A failure completes nothing, in silence: the shell's line must stay as it is.
func completeFrom[T any](
	ctx context.Context, address, path string, names func(*T) []string,
) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	resp, err := sendAdmin(ctx, address, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer func() { _ = resp.Body.Close() }()
	var v T
	if json.NewDecoder(io.LimitReader(resp.Body, maxErrorBytes)).Decode(&v) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list := names(&v)
	for i := range list {
		list[i] = printable(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list), cobra.ShellCompDirectiveNoFileComp
}

func completeGroups(ctx context.Context, address, word string) ([]string, cobra.ShellCompDirective) {
	q := url.Values{"prefix": {word}, "limit": {itoa(maxCompletions)}}
	return completeFrom(ctx, address, "/edgerelay/groups?"+q.Encode(), func(page *groupPage) (names []string) {
		for _, g := range page.Groups {
			names = append(names, g.Group)
		}
		return names
	})
}

func completePlugins(ctx context.Context, address, word string) ([]string, cobra.ShellCompDirective) {
	return completeFrom(ctx, address, "/edgerelay/plugins", func(list *[]pluginhost.Status) (names []string) {
		for _, p := range *list {
			if strings.HasPrefix(p.Name, word) {
				names = append(names, p.Name)
			}
		}
		return names
	})
}

func completeUsers(ctx context.Context, address, word string) ([]string, cobra.ShellCompDirective) {
	path := "/edgerelay/connections?limit=" + itoa(maxCompletions)
	return completeFrom(ctx, address, path, func(page *connectionPage) (names []string) {
		for _, c := range page.Connections {
			if name := userLabel(c); name != "-" && strings.HasPrefix(name, word) {
				names = append(names, name)
			}
		}
		return names
	})
}
