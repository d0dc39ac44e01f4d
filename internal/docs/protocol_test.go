package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// protocolPackages have the constants of the wire.
var protocolPackages = []string{
	"relay", "relay/hub", "relay/backplane", "relay/protocol/awx", "relay/protocol/channels", "relay/protocol/eventstream",
	"relay/protocol/publish", "relay/protocol/webhttp", "relay/transport/outgoing", "relay/transport/sse",
	"relay/transport/ws", "relay/authz/awx", "relay/authz/jwt", "relay/authz/site", "relay/presence/webhook",
	"caddymodule", "caddymodule/reject", "caddymodule/admin",
}

var (
	wireHeader = regexp.MustCompile(`^(Grip|Edgerelay|X|Sec|Access-Control|Idempotency|Last-Event|Connection|Content-Bytes|` +
		`Keep-Alive|Meta|Set-Meta|Retry|Www|WWW|Proxy)-[A-Za-z-]*[A-Za-z]$`)
	frameType = regexp.MustCompile(`"type":"([a-z_]+)"`)
	closeName = regexp.MustCompile(`(?i)^(close|code)[A-Z]`)
	wordCode  = regexp.MustCompile(`\b[1-4]\d{3}\b`)
)

// wire is what the source says about the protocol: by kind, the names and numbers.
type wire map[string][]string

func (w wire) add(kind, text string) {
	if !slices.Contains(w[kind], text) {
		w[kind] = append(w[kind], text)
	}
}

// readWire collects the constants of the protocol packages.
func readWire(t *testing.T) wire {
	t.Helper()
	w := wire{}
	for _, dir := range protocolPackages {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				w.read(dir, n)
				return true
			})
		}
	}
	return w
}

// read adds the constants of one node.
func (w wire) read(dir string, n ast.Node) {
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if closeName.MatchString(name.Name) && i < len(n.Values) {
				if v, ok := n.Values[i].(*ast.BasicLit); ok && v.Kind == token.INT && wordCode.MatchString(v.Value) {
					w.add("close code", v.Value)
				}
			}
			if strings.HasPrefix(name.Name, "event") && dir == "relay/protocol/webhttp" && i < len(n.Values) {
				w.add("event of a backend", literal(n.Values[i]))
			}
		}
	case *ast.BasicLit:
		text := literal(n)
		if wireHeader.MatchString(text) {
			w.add("header", text)
		}
		for _, m := range frameType.FindAllStringSubmatch(text, -1) {
			w.add("frame", m[1])
		}
	case *ast.CallExpr:
		w.readClose(dir, n)
	case *ast.CompositeLit:
		w.readComposite(dir, n)
	}
}

// readClose adds the reason of a call such as socket.Close(code, "reason").
func (w wire) readClose(dir string, call *ast.CallExpr) {
	if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Close" && f.Sel.Name != "close" || len(call.Args) != 2 {
		return
	}
	if reason := literal(call.Args[1]); reason != "" && dir != "relay/backplane" {
		w.add("close reason", reason)
	}
}

// readComposite adds the messages of the backplane, and the reasons of a limit's violation.
func (w wire) readComposite(dir string, lit *ast.CompositeLit) {
	id, ok := lit.Type.(*ast.Ident)
	if !ok {
		return
	}
	switch {
	case id.Name == "message" && dir == "relay/backplane":
		for _, e := range lit.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Type" {
				w.add("backplane message", literal(kv.Value))
			}
		}
	case id.Name == "violation" && len(lit.Elts) == 2:
		if code, ok := lit.Elts[0].(*ast.SelectorExpr); ok && code.Sel.Name == "ClosePolicy" {
			w.add("close reason", literal(lit.Elts[1]))
		}
	}
}

// literal returns the value of a string literal, or nothing.
func literal(n ast.Expr) string {
	if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, err := strconv.Unquote(lit.Value)
		if err == nil {
			return text
		}
	}
	return ""
}

// docs/protocol.md has every close code, reason, header and frame of the code, and no close code besides.
func TestProtocolPageIsComplete(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ToLower(string(text))
	found := readWire(t)
	for kind, least := range map[string]int{
		"close code": 8, "close reason": 15, "header": 30, "frame": 4, "event of a backend": 7, "backplane message": 6,
	} {
		if len(found[kind]) < least {
			t.Errorf("the source has %q as %s; the test looks at the wrong place", found[kind], kind)
		}
		for _, name := range found[kind] {
			if !strings.Contains(page, strings.ToLower(name)) {
				t.Errorf("docs/protocol.md lacks the %s %q", kind, name)
			}
		}
	}
	_, codes, _ := strings.Cut(string(text), "## Close codes of WebSockets")
	codes, _, _ = strings.Cut(codes, "\n## ")
	known := append([]string{"3000", "4000", "4400", "4499", "4999"}, found["close code"]...)
	for _, m := range regexp.MustCompile(`(?m)^\| ([\d to]+) \|`).FindAllStringSubmatch(codes, -1) {
		for _, code := range wordCode.FindAllString(m[1], -1) {
			if !slices.Contains(known, code) {
				t.Errorf("docs/protocol.md has the close code %s, which the source has not", code)
			}
		}
	}
}

// The reasons of rejected handshakes are in docs/protocol.md.
func TestProtocolPageHasRejections(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "caddymodule", "reject", "reason.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(source), "func (r Reason) String() string {")
	list, _, _ = strings.Cut(list, "}[r]")
	reasons := regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(list, -1)
	if !ok || len(reasons) < 10 {
		t.Fatalf("reasons: %q", reasons)
	}
	for _, m := range reasons {
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("docs/protocol.md lacks the reason `%s`", m[1])
		}
	}
}

// Each line of the tables of docs/guarantees.md names a test, and each test exists; every cause of a loss has a line.
func TestGuaranteesHaveTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, rows := testNames(t), 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		named := testName.FindAllString(line, -1)
		if len(named) == 0 && !strings.HasSuffix(strings.TrimSpace(line), "| test |") {
			t.Errorf("no test in the line %s", line)
		}
		for _, name := range named {
			rows++
			if !slices.Contains(tests, name) {
				t.Errorf("%s does not exist", name)
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d tests, want 40 or more", rows)
	}
	source, err := os.ReadFile(filepath.Join(root, "relay", "losses.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`Loss\w+: +"(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		if !strings.Contains(string(text), "`"+m[1]+"`") {
			t.Errorf("docs/guarantees.md lacks the cause `%s`", m[1])
		}
	}
}
