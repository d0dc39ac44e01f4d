package layout_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root      = "../.."
	decisions = "docs/decisions"
)

// record is a decision: a heading and the text below.
type record struct {
	heading, anchor string
	parts           []string // the bold words that begin its paragraphs, in order
}

var (
	partOfRecord   = regexp.MustCompile(`(?m)^\*\*(\w+):\*\* .`)
	decisionLink   = regexp.MustCompile(`docs/decisions/([a-z-]+\.md)(?:#([a-z0-9_-]+))?`)
	notInAnchor    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	explicitAnchor = regexp.MustCompile(`<a id="([^"]+)">`)
)

// anchorOf returns the anchor that code hosts give to a heading.
func anchorOf(heading string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// readRecords returns the records of a page of decisions, and every anchor of the page.
func readRecords(text string) (records []record, anchors []string) {
	for _, m := range explicitAnchor.FindAllStringSubmatch(text, -1) {
		anchors = append(anchors, m[1])
	}
	for _, section := range regexp.MustCompile(`(?m)^#+ `).Split(text, -1)[1:] {
		heading, _, _ := strings.Cut(section, "\n")
		anchors = append(anchors, anchorOf(heading))
	}
	for _, section := range regexp.MustCompile(`(?m)^### `).Split(text, -1)[1:] {
		if end := regexp.MustCompile(`(?m)^#{1,2} `).FindStringIndex(section); end != nil {
			section = section[:end[0]]
		}
		heading, body, _ := strings.Cut(section, "\n")
		r := record{heading: heading, anchor: anchorOf(heading)}
		for _, m := range partOfRecord.FindAllStringSubmatch(body, -1) {
			r.parts = append(r.parts, m[1])
		}
		records = append(records, r)
	}
	return records, anchors
}

// readDecisions returns the pages of decisions by file name; the index is not among them.
func readDecisions(t *testing.T) (pages map[string]string, index string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, decisions, "*.md"))
	if err != nil || len(files) < 10 {
		t.Fatalf("decisions: got %d files (%v), want at least 10", len(files), err)
	}
	pages = map[string]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(file); name == "README.md" {
			index = string(b)
		} else {
			pages[name] = string(b)
		}
	}
	return pages, index
}

func TestDecisionRecordsHaveFourParts(t *testing.T) {
	want := []string{"Context", "Decision", "Alternatives", "Measured"}
	pages, index := readDecisions(t)
	for name, text := range pages {
		records, _ := readRecords(text)
		if len(records) == 0 {
			t.Errorf("%s has no record", name)
		}
		seen := map[string]bool{}
		for _, r := range records {
			if !slices.Equal(r.parts, want) {
				t.Errorf("%s, %q: parts %v, want %v", name, r.heading, r.parts, want)
			}
			if seen[r.anchor] {
				t.Errorf("%s has the anchor %q twice", name, r.anchor)
			}
			seen[r.anchor] = true
			if !strings.Contains(index, "]("+name+"#"+r.anchor+")") {
				t.Errorf("%s/README.md does not link to %s#%s", decisions, name, r.anchor)
			}
		}
	}
}

func TestRecordsAreRead(t *testing.T) {
	records, anchors := readRecords("# A\n\n### Why `b_c` and d.e?\n\n**Context:** x\n\n**Decision:** y\n\n## F\n\n" +
		"<a id=\"g\"></a>\n\n### H\n\n**Measured:** z\n")
	want := []record{
		{"Why `b_c` and d.e?", "why-b_c-and-de", []string{"Context", "Decision"}},
		{"H", "h", []string{"Measured"}},
	}
	if !slices.EqualFunc(records, want, func(a, b record) bool {
		return a.heading == b.heading && a.anchor == b.anchor && slices.Equal(a.parts, b.parts)
	}) {
		t.Errorf("got %v, want %v", records, want)
	}
	if want := []string{"g", "a", "why-b_c-and-de", "f", "h"}; !slices.Equal(anchors, want) {
		t.Errorf("got anchors %v, want %v", anchors, want)
	}
}

// Comments and pages name records by path and anchor; relative links are checked with all other links.
func TestLinksToDecisionsExist(t *testing.T) {
	pages, _ := readDecisions(t)
	anchors := map[string][]string{"README.md": nil}
	for name, text := range pages {
		_, anchors[name] = readRecords(text)
	}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "node_modules", "testdata", "layout"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".md", ".yml", ".yaml", ".sh", ".c", ".h", ".rs", ".ts"}, filepath.Ext(file)) {
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range decisionLink.FindAllStringSubmatch(string(b), -1) {
			known, found := anchors[m[1]]
			if !found || m[2] != "" && !slices.Contains(known, m[2]) {
				t.Errorf("%s names %s, which does not exist", file, m[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachDirectDependencyHasAReason(t *testing.T) {
	pages, _ := readDecisions(t)
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\t?(\S+\.\S+/\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(string(b), -1) {
		if m[2] == "" {
			direct = append(direct, m[1])
		}
	}
	if len(direct) < 10 {
		t.Fatalf("go.mod: got %d direct dependencies, want at least 10", len(direct))
	}
	cells := strings.FieldsFunc(pages["dependencies.md"], func(r rune) bool { return strings.ContainsRune(" ,|\n", r) })
	for _, module := range direct {
		if !slices.Contains(cells, module) {
			t.Errorf("%s/dependencies.md gives no reason for %s", decisions, module)
		}
	}
}
