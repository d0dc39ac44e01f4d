package deploy

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// root is the repository.
const root = "../.."

// objects are the decoded objects of one rendering, by kind and name.
type objects map[string]any

// decode decodes a document of YAML strictly into the type of its kind. An unknown kind or field is an error.
func (all objects) decode(t *testing.T, document []byte) {
	t.Helper()
	var head meta.TypeMeta
	if err := yaml.Unmarshal(document, &head); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	object := map[string]any{
		"apps/v1 Deployment":                      new(apps.Deployment),
		"v1 ConfigMap":                            new(core.ConfigMap),
		"v1 Service":                              new(core.Service),
		"v1 ServiceAccount":                       new(core.ServiceAccount),
		"networking.k8s.io/v1 Ingress":            new(networking.Ingress),
		"networking.k8s.io/v1 NetworkPolicy":      new(networking.NetworkPolicy),
		"policy/v1 PodDisruptionBudget":           new(policy.PodDisruptionBudget),
		"monitoring.coreos.com/v1 ServiceMonitor": new(monitoring.ServiceMonitor),
		"awx.ansible.com/v1beta1 AWX":             new(awx),
	}[head.APIVersion+" "+head.Kind]
	if object == nil {
		t.Fatalf("unexpected kind %s %s", head.APIVersion, head.Kind)
	}
	if err := unmarshal(document, object); err != nil {
		t.Fatalf("%s: %v\n%s", head.Kind, err, document)
	}
	name := object.(meta.Object).GetName()
	if name == "" || all[head.Kind+" "+name] != nil {
		t.Errorf("%s %q: no name, or twice", head.Kind, name)
	}
	all[head.Kind+" "+name] = object
}

// unmarshal decodes YAML as the API server does: unknown and repeated fields are errors, and upper and lower case
// differ, which encoding/json and the libraries on it ignore.
func unmarshal(document []byte, into any) error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	faults, err := strict.UnmarshalStrict(text, into)
	return errors.Join(append(faults, err)...)
}

// decodeAll decodes the documents of a YAML file.
func (all objects) decodeAll(t *testing.T, text []byte) {
	t.Helper()
	for document := range bytes.SplitSeq(text, []byte("\n---")) {
		if len(bytes.TrimSpace(stripComments(document))) > 0 {
			all.decode(t, document)
		}
	}
}

// stripComments removes lines that are comments, of which Helm leaves documents.
func stripComments(document []byte) []byte {
	var kept [][]byte
	for line := range bytes.Lines(document) {
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' && !bytes.Equal(trimmed, []byte("---")) {
			kept = append(kept, line)
		}
	}
	return bytes.Join(kept, nil)
}

// get returns an object, or fails the test.
func get[T any](t *testing.T, all objects, key string) T {
	t.Helper()
	object, ok := all[key].(T)
	if !ok {
		var keys []string
		for k := range all {
			keys = append(keys, k)
		}
		t.Fatalf("no %s among %s", key, strings.Join(keys, ", "))
	}
	return object
}

// checkMounts reports mounts without a volume, and volumes without a mount.
func checkMounts(t *testing.T, volumes []core.Volume, mounts ...[]core.VolumeMount) {
	t.Helper()
	used := map[string]bool{}
	for _, v := range volumes {
		used[v.Name] = false
	}
	for _, of := range mounts {
		for _, m := range of {
			if _, known := used[m.Name]; !known {
				t.Errorf("the mount %s has no volume %s", m.MountPath, m.Name)
			}
			used[m.Name] = true
		}
	}
	for name, mounted := range used {
		if !mounted {
			t.Errorf("the volume %s is mounted nowhere", name)
		}
	}
}

// validate has Caddy validate a Caddyfile, by the binary that EDGERELAY_CADDY names.
func validate(t *testing.T, caddyfile string, env ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "adapt", "--config", file, "--adapter", "caddyfile", "--validate")
	cmd.Env = append(os.Environ(), append(env, "XDG_DATA_HOME="+t.TempDir())...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// binary returns the path of the binary under test.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EDGERELAY_CADDY")
	if path == "" {
		t.Fatal("EDGERELAY_CADDY names no binary; run `make deploy-test`")
	}
	return path
}

// Mistakes are seen: an unknown field, a field in another case, a field twice.
func TestUnmarshalIsStrict(t *testing.T) {
	for name, text := range map[string]string{
		"unknown field": "spec: {replica: 2}", "other case": "spec: {Replicas: 2}", "twice": "spec: {replicas: 2, replicas: 3}",
	} {
		if err := unmarshal([]byte(text), new(apps.Deployment)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := unmarshal([]byte("spec: {replicas: 2}"), new(apps.Deployment)); err != nil {
		t.Error(err)
	}
}
