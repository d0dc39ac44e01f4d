package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// bundleFile is a file of a support bundle.
type bundleFile struct {
	name, about string
	content     []byte
}

// bundle is a support bundle in the making.
type bundle struct {
	address string
	log     io.Writer
	made    time.Time

	files    []bundleFile
	leftOut  []leftOut
	redacted *redactor
	// droppedLines is the number of lines of the log that contain a secret.
	droppedLines int
}

// bundleSources are the files that are responses of the admin API.
var bundleSources = []struct{ name, method, path, about string }{
	{"status.json", http.MethodGet, "/edgerelay/status", "state, rates, drops, limits and process of the node, as 'status --json'"},
	{"health.json", http.MethodGet, "/edgerelay/health", "health with all details, as 'health'"},
	{
		"groups.json", http.MethodGet, "/edgerelay/groups?sort=subscribers&limit=200",
		"the 200 groups with most subscribers. NAMES OF GROUPS MAY CONTAIN IDS OF USERS OR OBJECTS",
	},
	{"peers.json", http.MethodGet, "/edgerelay/peers", "nodes of the backplane, as 'peer list --json'"},
	{"plugins.json", http.MethodGet, "/edgerelay/plugins", "plugins, as 'plugin list --json'; without their configurations"},
	{"plugin-nodes.json", http.MethodGet, "/edgerelay/plugin-nodes", "plugins of all nodes, as 'plugin list --nodes --json'"},
	{"logs.ndjson", http.MethodGet, "/edgerelay/logs", "the last 500 lines, or 256 KiB, of the relay's own log; not those of Caddy"},
	{"metrics.txt", http.MethodGet, "/metrics", "Prometheus metrics of the process"},
	{"goroutines.txt", http.MethodGet, "/debug/pprof/goroutine?debug=1", "goroutines by stack, without values"},
}

// configFile is the file with the configuration, which [redactConfig] has searched already.
const configFile = "config.json"

// maxBundleFile bounds a file, in bytes.
const maxBundleFile = 8 << 20

// collect fetches all files. Without the configuration there is no bundle: the secrets would not be known.
func (b *bundle) collect(ctx context.Context) error {
	var config json.RawMessage
	err := getAdmin(ctx, b.address, "/config/", &config)
	if err == nil {
		err = b.addConfig(config)
	}
	if unreachable := new(codedError); errors.As(err, &unreachable) && unreachable.code == exitUnreachable {
		return fmt.Errorf("reading the configuration: %w; without a running relay, use --config", err)
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	for _, s := range bundleSources {
		content, err := fetchFile(ctx, b.address, s.method, s.path)
		if err == nil && s.name == "logs.ndjson" {
			content, err = splitLog(content)
		}
		if err != nil {
			b.leave(s.name, err.Error())
			continue
		}
		b.add(s.name, s.about, content)
	}
	fmt.Fprintln(b.log, "running the doctor")
	if content, err := diagnose(ctx, b.address); err != nil {
		b.leave("doctor.json", err.Error())
	} else {
		b.add("doctor.json", "findings of the doctor, as 'doctor --json'", content)
	}
	return b.addSummaries()
}

// addConfig adds the configuration without secrets, and collects the secrets.
func (b *bundle) addConfig(config json.RawMessage) error {
	text, r, err := redactConfig(config)
	if err != nil {
		return err
	}
	b.redacted = r
	b.add(configFile, fmt.Sprintf("the configuration in Caddy's JSON; %d values are redacted", r.removed), text)
	return nil
}

// addSummaries adds the files that the command makes itself.
func (b *bundle) addSummaries() error {
	var versions bytes.Buffer
	if err := writeVersions(&versions, true); err != nil {
		return err
	}
	b.add("versions.json", "versions in the binary of this command; status.json has that of the running relay",
		versions.Bytes())
	for _, f := range b.files {
		if f.name != "status.json" {
			continue
		}
		var status struct{ Limits, Process json.RawMessage }
		if err := json.Unmarshal(f.content, &status); err != nil {
			b.leave("limits.json", err.Error())
			return nil
		}
		var limits bytes.Buffer
		if err := printJSON(&limits, map[string]json.RawMessage{
			"limits": status.Limits, "process": status.Process,
		}); err != nil {
			return err
		}
		b.add("limits.json", "limits of the configuration, and use of the process", limits.Bytes())
	}
	return nil
}

func (b *bundle) add(name, about string, content []byte) {
	b.files = append(b.files, bundleFile{name, about, content})
}

func (b *bundle) leave(name, reason string) {
	b.leftOut = append(b.leftOut, leftOut{name, reason})
}

// names returns the names of the files, with the README.
func (b *bundle) names() []string {
	names := []string{"README.txt"}
	for _, f := range b.files {
		names = append(names, f.name)
	}
	return names
}

// fetchFile returns a response of the admin API. The health of an unhealthy node comes with an error status.
func fetchFile(ctx context.Context, address, method, path string) ([]byte, error) {
	resp, err := requestAdmin(ctx, address, method, path, nil)
	var rejected *adminError
	if errors.As(err, &rejected) && rejected.status == http.StatusServiceUnavailable && json.Valid(rejected.body) &&
		rejected.message == "" {
		return rejected.body, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxBundleFile+1))
	if err == nil && len(content) > maxBundleFile {
		err = fmt.Errorf("the response has more than %d bytes", maxBundleFile)
	}
	return content, err
}

// splitLog returns the lines of the log as a file.
func splitLog(response []byte) ([]byte, error) {
	var tail struct{ Lines []json.RawMessage }
	if err := json.Unmarshal(response, &tail); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, line := range tail.Lines {
		text.Write(line)
		text.WriteByte('\n')
	}
	return text.Bytes(), nil
}

// diagnose lets the doctor of the relay and of the site make their checks.
func diagnose(ctx context.Context, address string) ([]byte, error) {
	d, err := requestDiagnosis(ctx, address, "")
	if err != nil {
		return nil, err
	}
	if err := checkSite(ctx, address, &d); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = printJSON(&text, d)
	return text.Bytes(), err
}

// replaceKnown redacts the secrets that the configuration has in clear, such as a token in the URL of a webhook, which
// the status and the doctor show. Short ones are left to the search: they may be part of other words.
func (b *bundle) replaceKnown() {
	var pairs []string
	// The longest first, so that nothing is left of a secret that begins with another one.
	secrets := slices.SortedFunc(slices.Values(b.redacted.secrets), func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if len(secret) < minReplaced || placeholder.MatchString(secret) {
			continue
		}
		pairs = append(pairs, secret, redacted)
		// JSON can be within a text, and within JSON.
		quoted, plain := secret, secret
		for range maxQuoted {
			escaped, _ := json.Marshal(quoted) // cannot fail
			quoted = string(escaped[1 : len(escaped)-1])
			unescaped := appendJSON(nil, plain)
			plain = string(unescaped[1 : len(unescaped)-1])
			pairs = append(pairs, quoted, redacted, plain, redacted)
		}
	}
	replacer := strings.NewReplacer(pairs...)
	for i := range b.files {
		b.files[i].content = redactFile(b.files[i].content, replacer, b.files[i].name == configFile)
	}
}

// maxQuoted is the depth of JSON in JSON, within a text, to which known secrets are replaced.
const maxQuoted = 3

// minReplaced is the length from which a secret is replaced in other files, in bytes.
const minReplaced = 8
