package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

const chart = root + "/deploy/helm/edgerelay"

// render renders the chart as `helm install shop` does, with the schema of the values checked, and returns the text of
// NOTES.txt with the objects.
func render(t *testing.T, values map[string]any) (objects, string, error) {
	t.Helper()
	c, err := loader.LoadDir(chart)
	if err != nil {
		t.Fatal(err)
	}
	release := chartutil.ReleaseOptions{Name: "shop", Namespace: "web", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, release, nil)
	if err != nil {
		return nil, "", err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		t.Fatal(err)
	}
	decoded, notes := objects{}, ""
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Base(name) == "NOTES.txt" {
			notes = files[name]
			continue
		}
		decoded.decodeAll(t, []byte(files[name]))
	}
	return decoded, notes, nil
}

func mustRender(t *testing.T, values map[string]any) (objects, string) {
	t.Helper()
	all, notes, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return all, notes
}

// read reads a file of values.
func read(t *testing.T, file string) (values map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// The chart's defaults run as they are: a safe Caddyfile, in a pod without rights.
func TestChartDefaults(t *testing.T) {
	all, notes := mustRender(t, nil)
	want := []string{
		"ConfigMap shop-edgerelay", "Deployment shop-edgerelay", "PodDisruptionBudget shop-edgerelay",
		"Service shop-edgerelay", "Service shop-edgerelay-metrics", "ServiceAccount shop-edgerelay",
	}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		t.Errorf("objects %q, want %q", got, want)
	}
	validate(t, get[*core.ConfigMap](t, all, "ConfigMap shop-edgerelay").Data["Caddyfile"])
	if !strings.Contains(notes, "memory of each pod") {
		t.Error("the notes do not warn of the channel layer in memory")
	}
	pod := get[*apps.Deployment](t, all, "Deployment shop-edgerelay").Spec.Template
	c := pod.Spec.Containers[0]
	checkMounts(t, pod.Spec.Volumes, c.VolumeMounts)
	if c.Image != "ghcr.io/edgerelay/edgerelay:0.1.0" || !slices.Contains(c.Args, "--watch") {
		t.Errorf("image %s, arguments %q", c.Image, c.Args)
	}
	s := c.SecurityContext
	if !*pod.Spec.SecurityContext.RunAsNonRoot || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem ||
		!slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || *pod.Spec.AutomountServiceAccountToken {
		t.Errorf("the pod has rights: %+v, %+v", pod.Spec.SecurityContext, s)
	}
	// Compiling a plugin may take two minutes; meanwhile the liveness probe must not end the pod.
	if p := c.StartupProbe; p == nil || p.TCPSocket == nil || p.PeriodSeconds*p.FailureThreshold < 180 {
		t.Errorf("startup probe %+v, want one of three minutes or more", p)
	}
	for _, m := range c.VolumeMounts {
		if m.Name == "config" && m.SubPath != "" {
			t.Error("a file that is mounted by subPath does not change with its ConfigMap")
		}
	}
}

// A pod that ends has the time to move its clients, and more for the rest.
func TestChartDrains(t *testing.T) {
	all, _ := mustRender(t, map[string]any{"drain": map[string]any{"seconds": 120}})
	pod := get[*apps.Deployment](t, all, "Deployment shop-edgerelay").Spec.Template.Spec
	if got := *pod.TerminationGracePeriodSeconds; got != 150 {
		t.Errorf("terminationGracePeriodSeconds %d, want 150", got)
	}
	want := "/usr/bin/caddy edgerelay drain --duration 120s --wait"
	if got := strings.Join(pod.Containers[0].Lifecycle.PreStop.Exec.Command, " "); got != want {
		t.Errorf("preStop %s, want %s", got, want)
	}
	all, _ = mustRender(t, map[string]any{"drain": map[string]any{"seconds": 0}})
	if get[*apps.Deployment](t, all, "Deployment shop-edgerelay").Spec.Template.Spec.Containers[0].Lifecycle != nil {
		t.Error("drain.seconds 0 has a preStop hook")
	}
}

// The example of a Django site has every part, and parts find each other.
func TestChartOfADjangoSite(t *testing.T) {
	all, notes := mustRender(t, read(t, chart+"/ci/django-values.yaml"))
	validate(t, get[*core.ConfigMap](t, all, "ConfigMap shop-edgerelay").Data["Caddyfile"], "REDIS_URL=redis://redis:6379/0")
	if strings.Contains(notes, "memory of each pod") {
		t.Error("the notes warn of a channel layer that the Caddyfile does not have")
	}
	labels := get[*apps.Deployment](t, all, "Deployment shop-edgerelay").Spec.Template.Labels
	service := get[*core.Service](t, all, "Service shop-edgerelay")
	metrics := get[*core.Service](t, all, "Service shop-edgerelay-metrics")
	for name, selector := range map[string]map[string]string{
		"Deployment": get[*apps.Deployment](t, all, "Deployment shop-edgerelay").Spec.Selector.MatchLabels,
		"Service":    service.Spec.Selector, "metrics": metrics.Spec.Selector,
		"PodDisruptionBudget": get[*policy.PodDisruptionBudget](t, all, "PodDisruptionBudget shop-edgerelay").Spec.Selector.MatchLabels,
		"NetworkPolicy":       get[*networking.NetworkPolicy](t, all, "NetworkPolicy shop-edgerelay").Spec.PodSelector.MatchLabels,
	} {
		if !within(selector, labels) || len(selector) == 0 {
			t.Errorf("%s selects %v, the pods have %v", name, selector, labels)
		}
	}
	monitor := get[*monitoring.ServiceMonitor](t, all, "ServiceMonitor shop-edgerelay")
	if !within(monitor.Spec.Selector.MatchLabels, metrics.Labels) || within(monitor.Spec.Selector.MatchLabels, service.Labels) {
		t.Errorf("the monitor selects %v: want the service of metrics alone", monitor.Spec.Selector.MatchLabels)
	}
	ingress := get[*networking.Ingress](t, all, "Ingress shop-edgerelay").Spec
	backend := ingress.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != service.Name || backend.Port.Name != service.Spec.Ports[0].Name || *ingress.IngressClassName != "nginx" {
		t.Errorf("the ingress leads to %+v", backend)
	}
}

// within reports whether all labels of a selector are among labels.
func within(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// Every setting reaches its object.
func TestChartSettings(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	all, _ := mustRender(t, map[string]any{
		"fullnameOverride": "edge", "image": map[string]any{"digest": digest}, "imagePullSecrets": []any{map[string]any{"name": "pull"}},
		"existingConfigMap": "mine", "watch": false, "env": []any{map[string]any{"name": "A", "value": "b"}},
		"data":              map[string]any{"existingClaim": "claim"},
		"extraVolumes":      []any{map[string]any{"name": "plugins", "configMap": map[string]any{"name": "plugins"}}},
		"extraVolumeMounts": []any{map[string]any{"name": "plugins", "mountPath": "/plugins"}},
		"service":           map[string]any{"type": "LoadBalancer", "annotations": map[string]any{"a": "b"}},
		"metrics":           map[string]any{"enabled": false}, "podDisruptionBudget": map[string]any{"enabled": false},
		"serviceAccount": map[string]any{"create": false, "name": "other"}, "networkPolicy": map[string]any{"enabled": true},
		"podAnnotations": map[string]any{"x": "y"}, "podLabels": map[string]any{"team": "web"}, "priorityClassName": "high",
		"nodeSelector": map[string]any{"disk": "ssd"}, "tolerations": []any{map[string]any{"key": "k", "operator": "Exists"}},
	})
	want := []string{"Deployment edge", "NetworkPolicy edge", "Service edge"}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		t.Errorf("objects %q, want %q", got, want)
	}
	d := get[*apps.Deployment](t, all, "Deployment edge")
	pod := d.Spec.Template
	c := pod.Spec.Containers[0]
	checkMounts(t, pod.Spec.Volumes, c.VolumeMounts)
	if c.Image != "ghcr.io/edgerelay/edgerelay@"+digest || slices.Contains(c.Args, "--watch") || c.Env[0].Value != "b" ||
		pod.Spec.ServiceAccountName != "other" || pod.Spec.PriorityClassName != "high" || pod.Spec.NodeSelector["disk"] != "ssd" ||
		pod.Labels["team"] != "web" || pod.Annotations["x"] != "y" || pod.Annotations["checksum/config"] == "" ||
		pod.Spec.ImagePullSecrets[0].Name != "pull" || len(pod.Spec.Tolerations) != 1 {
		t.Errorf("settings are missing in %+v", pod)
	}
	if pod.Spec.Volumes[0].ConfigMap.Name != "mine" || pod.Spec.Volumes[1].PersistentVolumeClaim.ClaimName != "claim" {
		t.Errorf("volumes %+v", pod.Spec.Volumes)
	}
	if rules := get[*networking.NetworkPolicy](t, all, "NetworkPolicy edge").Spec.Ingress; len(rules) != 1 {
		t.Errorf("the policy opens metrics that are off: %+v", rules)
	}
}

// Mistakes in values are errors, and not ignored.
func TestChartRejects(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"unknown setting":   {"replicas": 3},
		"unknown in a part": {"image": map[string]any{"name": "x"}},
		"wrong type":        {"replicaCount": "two"},
		"no digest":         {"image": map[string]any{"digest": "latest"}},
		"empty Caddyfile":   {"caddyfile": ""},
		"negative drain":    {"drain": map[string]any{"seconds": -1}},
	} {
		if _, _, err := render(t, values); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The chart's README, values and schema name the same settings.
func TestChartIsDocumented(t *testing.T) {
	values := read(t, chart+"/values.yaml")
	readme, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range values {
		if !strings.Contains(string(readme), "`"+name) {
			t.Errorf("README.md has no %s", name)
		}
		if schema.Properties[name] == nil {
			t.Errorf("values.schema.json has no %s", name)
		}
	}
	delete(schema.Properties, "global") // Helm's own
	if len(schema.Properties) != len(values) {
		t.Errorf("the schema has %d settings, values.yaml %d", len(schema.Properties), len(values))
	}
}
