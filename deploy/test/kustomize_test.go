package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// awx has the fields of the operator's resource that the examples use. They were compared by hand with the operator's
// custom resource definition (config/crd/bases/awx.ansible.com_awxs.yaml at 1bc3422, October 2024) on 29 November 2026.
type awx struct {
	meta.TypeMeta
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		Image                          string `json:"image"`
		ImageVersion                   string `json:"image_version"`
		ExtraVolumes                   string `json:"extra_volumes"`
		WebExtraVolumeMounts           string `json:"web_extra_volume_mounts"`
		WebExtraEnv                    string `json:"web_extra_env"`
		InitContainerExtraVolumeMounts string `json:"init_container_extra_volume_mounts"`
		InitContainerExtraCommands     string `json:"init_container_extra_commands"`
	} `json:"spec"`
}

// build runs `kustomize build`.
func build(t *testing.T, dir string) objects {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	all := objects{}
	all.decodeAll(t, text)
	return all
}

// part decodes a text of the resource strictly into a type of Kubernetes. The operator inserts it into a pod.
func part[T any](t *testing.T, text string) (parts []T) {
	t.Helper()
	if err := unmarshal([]byte(text), &parts); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	return parts
}

// Every way into the operator's pods brings the binary to the path that supervisord starts, and the same configuration.
func TestOperator(t *testing.T) {
	for dir, ownImage := range map[string]bool{
		"examples/awx": true,
		"deploy/kustomize/awx-operator/image-volume": false,
		"deploy/kustomize/awx-operator/download":     false,
	} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			all := build(t, filepath.Join(root, dir))
			if got, want := slices.Sorted(maps.Keys(all)), []string{"AWX awx", "ConfigMap awx-edgerelay"}; !slices.Equal(got, want) {
				t.Errorf("objects %q, want %q", got, want)
			}
			spec := get[*awx](t, all, "AWX awx").Spec
			if (spec.Image != "") != ownImage || (spec.InitContainerExtraCommands == "") != ownImage {
				t.Errorf("image %q, commands %q", spec.Image, spec.InitContainerExtraCommands)
			}
			volumes := part[core.Volume](t, spec.ExtraVolumes)
			web := part[core.VolumeMount](t, spec.WebExtraVolumeMounts)
			checkMounts(t, volumes, web, part[core.VolumeMount](t, spec.InitContainerExtraVolumeMounts))
			env := part[core.EnvVar](t, spec.WebExtraEnv)
			if len(env) != 1 || env[0].Name != "BROADCAST_WEBSOCKET_SECRET" || env[0].ValueFrom.SecretKeyRef.Key != "secret" {
				t.Errorf("environment %+v", env)
			}
			for _, text := range []string{spec.ExtraVolumes, spec.WebExtraVolumeMounts, spec.InitContainerExtraCommands} {
				for _, jinja := range []string{"{{", "{%", "{#"} {
					if strings.Contains(text, jinja) {
						t.Errorf("%s is Ansible's", jinja)
					}
				}
			}
			files := get[*core.ConfigMap](t, all, "ConfigMap awx-edgerelay").Data
			validate(t, files["Caddyfile"], "BROADCAST_WEBSOCKET_SECRET=secret")
			if !strings.Contains(files["supervisord_web.conf"], "command = /opt/edgerelay/caddy run ") {
				t.Error("supervisord starts another path")
			}
			for _, want := range []string{"/etc/edgerelay", "/etc/supervisord_web.conf", "/run/edgerelay"} {
				if !slices.ContainsFunc(web, func(m core.VolumeMount) bool { return m.MountPath == want }) {
					t.Errorf("no mount %s", want)
				}
			}
			mounted := slices.ContainsFunc(web, func(m core.VolumeMount) bool { return m.MountPath == "/opt/edgerelay" && m.ReadOnly })
			if mounted == ownImage {
				t.Errorf("/opt/edgerelay is mounted: %v", mounted)
			}
		})
	}
}

// The init container of the overlay accepts the release alone whose sum is in SHA256SUMS, and task pods need none.
func TestDownload(t *testing.T) {
	commands := get[*awx](t, build(t, filepath.Join(root, "deploy/kustomize/awx-operator/download")), "AWX awx").Spec.InitContainerExtraCommands
	archive := release(t, []byte("#!/bin/sh\necho edgerelay\n"))
	releases := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v0.1.0/edgerelay_0.1.0_linux_"+runtime.GOARCH+".tar.gz" {
			t.Errorf("asks for %s", r.URL.Path)
		}
		_, _ = w.Write(archive)
	}))
	defer releases.Close()
	right := fmt.Sprintf("%x  edgerelay_0.1.0_linux_%s.tar.gz\n%064d  another.deb\n", sha256.Sum256(archive), runtime.GOARCH, 0)
	placeholder, err := os.ReadFile(filepath.Join(root, "deploy/kustomize/awx-operator/download/SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host, sums string
		binary, ok bool
	}{
		"web":          {"awx-web-7d9c", right, true, true},
		"another file": {"awx-web-7d9c", strings.Replace(right, right[:4], "0000", 1), false, false},
		"not listed":   {"awx-web-7d9c", "", false, false},
		"placeholder":  {"awx-web-7d9c", string(placeholder), false, false},
		"task":         {"awx-task-5f6b", string(placeholder), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			sums := filepath.Join(dir, "SHA256SUMS")
			opt := filepath.Join(dir, "opt")
			if err := os.MkdirAll(opt, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(sums, []byte(c.sums), 0o600); err != nil {
				t.Fatal(err)
			}
			script := strings.NewReplacer(`"$(hostname)"`, c.host, "https://github.com/edgerelay/edgerelay/releases/download", releases.URL,
				"/etc/edgerelay/SHA256SUMS", sums, "/opt/edgerelay", opt).Replace(commands)
			out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("%v\n%s", err, out)
			}
			said, err := exec.Command(filepath.Join(opt, "caddy")).Output()
			if (err == nil) != c.binary || c.binary && string(said) != "edgerelay\n" {
				t.Errorf("the binary says %q (%v)", said, err)
			}
			if left, err := os.ReadDir(opt); c.binary && (err != nil || len(left) != 1) {
				t.Errorf("files remain: %v (%v)", left, err)
			}
		})
	}
}

// release returns an archive as goreleaser makes it, with a binary.
func release(t *testing.T, binary []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	name := "edgerelay_0.1.0_linux_" + runtime.GOARCH + "/edgerelay"
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(binary))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
