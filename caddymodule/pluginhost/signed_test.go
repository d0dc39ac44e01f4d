package pluginhost

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// newKey returns a pair of keys.
func newKey(t testing.TB, name string) (ed25519.PrivateKey, artifact.Key) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return private, artifact.Key{Name: name, Public: public}
}

// sign returns the content of a file .sig.
func sign(t testing.TB, wasm []byte, private ed25519.PrivateKey, forPlugins ...string) []byte {
	t.Helper()
	s, err := artifact.Sign(wasm, private, forPlugins...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := artifact.FormatSignatures([]artifact.Signature{*s})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// writeSignatures replaces the file with the signatures; nil removes it.
func (s *site) writeSignatures(text []byte) {
	s.t.Helper()
	name := s.file + SignatureSuffix
	if text == nil {
		_ = os.Remove(name)
		return
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// refuses checks that the plugin goes on as it was because of a signature.
func (s *site) refuses(want string) {
	s.t.Helper()
	if got := s.status().Refused; !strings.Contains(got, want) {
		s.t.Errorf("refused: %q, want %q", got, want)
	}
}

func TestFilesNeedSignatures(t *testing.T) {
	s := newSite(t)
	private, key := newKey(t, "ops")
	stranger, _ := newKey(t, "stranger")
	s.keys = artifact.Keys{key}
	one, two := module(t, "one1"), module(t, "two2")
	s.write(one)
	for name, signatures := range map[string][]byte{
		"unsigned": nil, "by a stranger": sign(t, one, stranger), "of another module": sign(t, two, private),
		"for another plugin": sign(t, one, private, "q"), "damaged": []byte("{"),
		"truncated": sign(t, one, private)[:100],
	} {
		s.writeSignatures(signatures)
		if err := s.tryStart(); !errors.Is(err, artifact.ErrSignature) {
			t.Errorf("a start with a module %s: %v", name, err)
		}
		if err := Check(context.Background(), []*Plugin{s.provisioned()}, Store{s.storage}, plugins.Limits{}); !errors.Is(err, artifact.ErrSignature) {
			t.Errorf("a check of a module %s: %v", name, err)
		}
	}
	s.writeSignatures(sign(t, one, private, "p"))
	s.start()
	s.runs(one, FromFile, 0)
	if got := s.status().SignedBy; got != "ops" {
		t.Errorf("signed by %q", got)
	}
	// The watcher: the old signature does not fit the new file, until the new one arrives.
	s.write(two)
	s.follows()
	s.runs(one, FromFile, 0)
	s.refuses("it is for the module")
	if n := s.SignaturesRefused("p"); n != 1 {
		t.Errorf("%d refusals", n)
	}
	s.follows()
	if n := s.SignaturesRefused("p"); n != 1 {
		t.Errorf("%d refusals after another check of the same file", n)
	}
	s.writeSignatures(sign(t, two, private))
	s.follows()
	s.runs(two, FromFile, 0)
	s.refuses("")
	if got := s.status().Refused; got != "" {
		t.Errorf("still refused: %s", got)
	}
}

// provisioned returns the plugin as a configuration has it.
func (s *site) provisioned() *Plugin {
	s.t.Helper()
	p := s.plugin
	if err := errors.Join(p.SetKeys(s.keys), p.Provision()); err != nil {
		s.t.Fatal(err)
	}
	return &p
}

func TestDeploymentsNeedSignatures(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	private, key := newKey(t, "ops")
	stranger, _ := newKey(t, "stranger")
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start() // without keys
	s.deploy(two, Change{})
	s.keys = artifact.Keys{key}
	s.writeSignatures(sign(t, one, private))
	if err := s.reload(func(*Plugin) {}); !errors.Is(err, artifact.ErrSignature) {
		t.Fatalf("a reload with keys and an unsigned deployment: %v", err)
	}
	s.runs(two, FromDeploy, 2)
	s.keys = nil
	s.start()
	if err := s.Undeploy(ctx, "p", Change{}); err != nil {
		t.Fatal(err)
	}
	s.keys = artifact.Keys{key}
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	s.runs(one, FromFile, 0)
	for name, c := range map[string]struct {
		change Change
		want   error
	}{
		"unsigned":           {Change{}, artifact.ErrSignature},
		"by a stranger":      {Change{Signatures: sign(t, three, stranger)}, artifact.ErrSignature},
		"of another module":  {Change{Signatures: sign(t, two, private)}, artifact.ErrSignature},
		"for another plugin": {Change{Signatures: sign(t, three, private, "q")}, artifact.ErrSignature},
		"damaged":            {Change{Signatures: []byte("{")}, ErrInvalidChange},
		"with other keys":    {Change{Settings: []byte(`{"keys": []}`)}, ErrSettings},
	} {
		if err := s.Deploy(ctx, "p", three, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.runs(one, FromFile, 0)
	if n := s.SignaturesRefused("p"); n != 4 {
		t.Errorf("%d refusals", n)
	}
	// A rollback to a module from before the keys.
	if err := s.Rollback(ctx, "p", Change{}); !errors.Is(err, artifact.ErrSignature) {
		t.Errorf("a rollback to an unsigned module: %v", err)
	}
	s.deploy(three, Change{Signatures: sign(t, three, private, "p"), Ref: "oci://registry/p@sha256:0"})
	s.runs(three, FromDeploy, 4)
	if e := s.history()[0]; e.Ref != "oci://registry/p@sha256:0" || e.Signatures != 1 {
		t.Errorf("the history begins with %+v", e)
	}
	// Signatures stay with the module: after a restart, a rollback to the file, and another one back.
	s.start()
	s.runs(three, FromDeploy, 4)
	for _, want := range [][]byte{one, three} {
		if err := s.Rollback(ctx, "p", Change{}); err != nil {
			t.Fatal(err)
		}
		if got := s.status(); got.Hash != plugins.Hash(want) || got.SignedBy != "ops" {
			t.Errorf("runs %.8s, signed by %q", got.Hash, got.SignedBy)
		}
	}
}

// A record in the storage, which another node has written, does not get round the keys.
func TestStorageNeedsSignatures(t *testing.T) {
	s := newSite(t)
	private, key := newKey(t, "ops")
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.keys = artifact.Keys{key}
	s.write(one)
	s.writeSignatures(sign(t, one, private))
	s.start()
	other := newNode(t, s) // without keys, such as a node of an earlier version
	other.deployTo(two, Change{})
	s.follows()
	s.runs(one, FromFile, 0)
	s.refuses("is not signed")
	other.deployTo(three, Change{Signatures: sign(t, three, private)})
	s.follows()
	s.runs(three, FromDeploy, 3)
	// A module that does not fit its hash, and signatures of another module.
	store := Store{s.storage}
	ctx := context.Background()
	if _, err := store.update(ctx, "p", false, func(r *record) ([][]byte, error) {
		e := *r.last()
		e.ID, e.Hash = newID(), plugins.Hash(two)
		r.add(&e)
		return [][]byte{two}, nil
	}); err != nil {
		t.Fatal(err)
	}
	s.follows()
	s.runs(three, FromDeploy, 3)
	s.refuses("it is for the module")
}

// node is another node that shares the storage.
type otherNode struct {
	t *testing.T
	*Host
}

func newNode(t *testing.T, s *site) *otherNode {
	t.Helper()
	h, err := New(hub.New(quiet), quiet, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	file := filepath.Join(t.TempDir(), "p.wasm")
	if err := os.WriteFile(file, module(t, "othr"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.plugin
	p.File = file
	if err := p.Provision(); err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(context.Background(), []*Plugin{&p}, Store{s.storage}); err != nil {
		t.Fatal(err)
	}
	return &otherNode{t, h}
}

func (n *otherNode) deployTo(wasm []byte, c Change) {
	n.t.Helper()
	if err := n.Deploy(context.Background(), "p", wasm, c); err != nil {
		n.t.Fatal(err)
	}
}

func TestKeysAreExchanged(t *testing.T) {
	s := newSite(t)
	before, beforeKey := newKey(t, "before")
	after, afterKey := newKey(t, "after")
	one := module(t, "one1")
	s.write(one)
	s.writeSignatures(sign(t, one, before))
	s.keys = artifact.Keys{beforeKey}
	s.start()
	s.keys = artifact.Keys{beforeKey, afterKey}
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	// Without the key, the module runs on and the reload fails.
	s.keys = artifact.Keys{afterKey}
	if err := s.reload(func(*Plugin) {}); err == nil || !strings.Contains(err.Error(), "signed by none of the keys after") {
		t.Errorf("a reload without the key of the running module: %v", err)
	}
	s.runs(one, FromFile, 0)
	s.writeSignatures(sign(t, one, after))
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	if got := s.status().SignedBy; got != "after" {
		t.Errorf("signed by %q", got)
	}
}

func TestKeysOfAPlugin(t *testing.T) {
	_, ops := newKey(t, "ops")
	_, ci := newKey(t, "ci")
	p := &Plugin{Name: "p", Keys: []string{"ci"}}
	if err := p.SetKeys(artifact.Keys{ops, ci}); err != nil || p.keys.String() != "ci" {
		t.Errorf("keys %s, %v", p.keys, err)
	}
	if err := p.SetKeys(artifact.Keys{ops}); err == nil || !strings.Contains(err.Error(), "plugin_key ci") {
		t.Errorf("an unknown key: %v", err)
	}
	line, err := artifact.FormatPublicKey(ops.Public)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		keys []*SigningKey
	}{
		{"", []*SigningKey{{"ops", line}, {"ci", line}}},
		{"given twice", []*SigningKey{{"ops", line}, {"ops", line}}},
		{"invalid name", []*SigningKey{{"a b", line}}},
		{"not base64", []*SigningKey{{"ops", "?"}}},
	} {
		keys, err := ParseKeys(c.keys)
		if c.want == "" && (err != nil || len(keys) != 2) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v", c.want, keys, err)
		}
	}
}

// A canary needs the signature of a deployment, on each node for itself.
func TestCanariesNeedSignatures(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	private, key := newKey(t, "ops")
	_, other := newKey(t, "other")
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.keys = artifact.Keys{key}
	s.write(one)
	s.writeSignatures(sign(t, one, private))
	s.start()
	half := CanarySettings{Share: 0.5, CanaryLimits: plugins.CanaryLimits{MaxErrors: 0.5}}
	if err := s.DeployCanary(ctx, "p", two, Change{}, half); !errors.Is(err, artifact.ErrSignature) {
		t.Errorf("an unsigned candidate: %v", err)
	}
	node := newNode(t, s) // without keys
	if err := node.DeployCanary(ctx, "p", two, Change{}, half); err != nil {
		t.Fatal(err)
	}
	if err := s.Promote(ctx, "p", Change{}); !errors.Is(err, artifact.ErrSignature) {
		t.Errorf("a promotion of an unsigned candidate: %v", err)
	}
	s.follows() // a node that refuses the candidate takes it back for all
	if c := s.status().Canary; c.Phase != CanaryReturned || !strings.Contains(c.Reason, "is not signed") {
		t.Errorf("the canary of an unsigned candidate is %+v", c)
	}
	if here := s.canaryHere("p"); here.id != "" {
		t.Error("an unsigned candidate runs")
	}
	signed := Change{Signatures: sign(t, three, private), Ref: "oci://registry/p:3"}
	if err := s.DeployCanary(ctx, "p", three, signed, half); err != nil {
		t.Fatal(err)
	}
	// With other keys, the candidate stops.
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	s.follows()
	if here := s.canaryHere("p"); here.id == "" {
		t.Error("the candidate does not run")
	}
	otherPrivate, _ := newKey(t, "x")
	s.keys = artifact.Keys{other, {Name: "x", Public: otherPrivate.Public().(ed25519.PublicKey)}}
	s.writeSignatures(sign(t, one, otherPrivate))
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	s.follows()
	if here := s.canaryHere("p"); here.id != "" {
		t.Error("a candidate runs that the keys have not signed")
	}
	s.keys = artifact.Keys{key}
	s.writeSignatures(sign(t, one, private))
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.DeployCanary(ctx, "p", three, signed, half); err != nil { // the first one was taken back
		t.Fatal(err)
	}
	if err := s.Promote(ctx, "p", Change{}); err != nil {
		t.Fatal(err)
	}
	if got := s.status(); got.SignedBy != "ops" || got.Ref != "oci://registry/p:3" || got.Hash != plugins.Hash(three) {
		t.Errorf("runs %.8s of %q, signed by %q", got.Hash, got.Ref, got.SignedBy)
	}
}
