// Package deploy tests the files under deploy/ with the tools that they are for.
package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

var chartDir = filepath.Join("..", "..", "deploy", "helm", "taskcluster")

// least are the values that one must give.
func least() map[string]any {
	return map[string]any{"rootUrl": "https://ci.example.com", "s3": map[string]any{"bucket": "artifacts"}}
}

// rendered are the objects of a release, each decoded strictly: a field that
// Kubernetes does not know is an error.
type rendered struct {
	deployment apps.Deployment
	service    core.Service
	settings   core.ConfigMap
	budget     *policy.PodDisruptionBudget
	ingress    *networking.Ingress
}

func render(t *testing.T, values map[string]any) rendered {
	t.Helper()
	out, err := renderChart(t, values)
	if err != nil {
		t.Fatal(err)
	}
	var r rendered
	decode := func(text string, into any) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	seen := 0
	for name, text := range out {
		if strings.TrimSpace(text) == "" || strings.HasSuffix(name, ".tpl") || strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		var kind meta.TypeMeta
		if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		seen++
		switch kind.APIVersion + " " + kind.Kind {
		case "apps/v1 Deployment":
			decode(text, &r.deployment)
		case "v1 Service":
			decode(text, &r.service)
		case "v1 ConfigMap":
			decode(text, &r.settings)
		case "policy/v1 PodDisruptionBudget":
			decode(text, &r.budget)
		case "networking.k8s.io/v1 Ingress":
			decode(text, &r.ingress)
		default:
			t.Errorf("%s: an object that is not tested: %+v", name, kind)
		}
	}
	if seen < 3 {
		t.Fatalf("only %d objects were rendered", seen)
	}
	return r
}

func renderChart(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "ci", Namespace: "default"}, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

func TestLint(t *testing.T) {
	for _, m := range lint.All(chartDir, least(), "default", true).Messages {
		if m.Severity >= support.WarningSev {
			t.Error(m)
		}
	}
}

func TestChart(t *testing.T) {
	r := render(t, least())
	d := r.deployment
	if *d.Spec.Replicas != 3 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 || d.Spec.Strategy.RollingUpdate.MaxSurge.IntValue() != 1 {
		t.Errorf("%+v", d.Spec.Strategy)
	}
	pod := labels.Set(d.Spec.Template.Labels)
	selector, err := meta.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || !selector.Matches(pod) {
		t.Error("the deployment does not select its pods", err)
	}
	if !labels.SelectorFromSet(r.service.Spec.Selector).Matches(pod) {
		t.Error("the service does not select the pods")
	}
	if r.budget == nil {
		t.Fatal("three nodes need a budget")
	}
	if budget, err := meta.LabelSelectorAsSelector(r.budget.Spec.Selector); err != nil || !budget.Matches(pod) || r.budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%+v", r.budget.Spec)
	}
	if r.ingress != nil {
		t.Error("an ingress was not asked for")
	}
	spec := d.Spec.Template.Spec
	c := spec.Containers[0]
	if c.Image != "taskcluster:0.1.0" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Errorf("%+v", c)
	}
	if grace, sleep := *spec.TerminationGracePeriodSeconds, c.Lifecycle.PreStop.Sleep.Seconds; grace < sleep+5+60 {
		t.Errorf("%d seconds to end, of which the first %d pass asleep", grace, sleep)
	}
	port := r.service.Spec.Ports[0].TargetPort.String()
	if !slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == port && p.ContainerPort == 8080 }) {
		t.Errorf("the service leads to the port %s: %v", port, c.Ports)
	}
	if sc := c.SecurityContext; !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation || !*spec.SecurityContext.RunAsNonRoot {
		t.Errorf("%+v %+v", sc, spec.SecurityContext)
	}
	for _, name := range []string{"TASKCLUSTER_KEYS", "TASKCLUSTER_POSTGRES_URL", "TASKCLUSTER_S3_SECRET_ACCESS_KEY"} {
		i := slices.IndexFunc(c.Env, func(e core.EnvVar) bool { return e.Name == name })
		if i < 0 || c.Env[i].Value != "" || c.Env[i].ValueFrom.SecretKeyRef.Name != "taskcluster" {
			t.Errorf("%s is not from the secret: %+v", name, c.Env)
		}
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("there is no volume %s", m.Name)
		}
	}
	settings(t, r, map[string]any{"root-url": "https://ci.example.com", "s3-bucket": "artifacts", "trust-proxy": true, "artifact-store": "s3", "drain-delay": "5s"})
}

// secrets looks that the secret has these beside those that it always has, and no
// others.
func secrets(t *testing.T, r rendered, want ...string) {
	t.Helper()
	var got []string
	for _, e := range r.deployment.Spec.Template.Spec.Containers[0].Env[4:] {
		if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef.Name != "taskcluster" || "TASKCLUSTER_"+strings.ToUpper(strings.ReplaceAll(e.ValueFrom.SecretKeyRef.Key, "-", "_")) != e.Name {
			t.Errorf("%s is not from the secret: %+v", e.Name, e)
		}
		got = append(got, e.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the secret has %v, want %v", got, want)
	}
}

// settings compares some of the settings that the nodes get, and has the
// program's own loader read all of them.
func settings(t *testing.T, r rendered, want map[string]any) {
	t.Helper()
	text := r.settings.Data["taskcluster.yml"]
	var got map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %v, want %v", name, got[name], value)
		}
	}
	var env []string
	for _, e := range r.deployment.Spec.Template.Spec.Containers[0].Env {
		if e.ValueFrom != nil {
			env = append(env, e.Name+"=a-secret-of-thirty-two-letters-0")
		}
	}
	explain(t, text, env)
}

func TestChartVariants(t *testing.T) {
	values := least()
	values["nodes"] = 1
	if r := render(t, values); r.budget != nil {
		t.Error("the only node may be moved away")
	}
	values = least()
	values["s3"] = map[string]any{"bucket": "b", "endpoint": "https://s3.example.com", "region": "r", "pathStyle": true}
	values["settings"] = map[string]any{"log-level": "debug"}
	values["ingress"] = map[string]any{"enabled": true, "className": "nginx", "annotations": map[string]any{"a": "b"},
		"tls": []any{map[string]any{"secretName": "tls", "hosts": []any{"ci.example.com"}}}}
	values["env"] = []any{map[string]any{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}}
	values["nodeSelector"] = map[string]any{"disk": "fast"}
	values["tolerations"] = []any{map[string]any{"key": "ci", "operator": "Exists"}}
	values["imagePullSecrets"] = []any{map[string]any{"name": "registry"}}
	r := render(t, values)
	settings(t, r, map[string]any{"s3-endpoint": "https://s3.example.com", "s3-region": "r", "s3-path-style": true, "log-level": "debug", "trust-proxy": true})
	if r.ingress == nil || r.ingress.Spec.Rules[0].Host != "ci.example.com" || r.ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name != r.service.Name {
		t.Errorf("%+v", r.ingress)
	}

	values = least()
	values["amqp"] = map[string]any{"enabled": true}
	values["pulse"] = map[string]any{"enabled": true}
	r = render(t, values)
	settings(t, r, map[string]any{"pulse-namespace-prefix": "pulse-", "pulse-amqp-url": nil, "pulse-username-prefix": nil, "mail-from": nil})
	secrets(t, r, "TASKCLUSTER_AMQP_URL", "TASKCLUSTER_PULSE_MANAGEMENT_URL")
	values["amqp"] = map[string]any{"enabled": false}
	values["pulse"] = map[string]any{"enabled": true, "amqpUrl": "amqps://rabbitmq.example.com:5671/ci", "namespacePrefix": "ours-", "usernamePrefix": "ci-"}
	values["mail"] = map[string]any{"from": "CI <ci@example.com>"}
	r = render(t, values)
	settings(t, r, map[string]any{"pulse-namespace-prefix": "ours-", "pulse-amqp-url": "amqps://rabbitmq.example.com:5671/ci", "pulse-username-prefix": "ci-", "mail-from": "CI <ci@example.com>"})
	secrets(t, r, "TASKCLUSTER_PULSE_MANAGEMENT_URL", "TASKCLUSTER_SMTP_URL")

	for what, change := range map[string]func(v map[string]any){
		"pulse.amqpUrl: without amq": func(v map[string]any) { v["pulse"] = map[string]any{"enabled": true} },
		"namespacePrefix": func(v map[string]any) {
			v["pulse"] = map[string]any{"enabled": true, "amqpUrl": "amqp://host", "namespacePrefix": ".*"}
		},
		"amqpUrl": func(v map[string]any) {
			v["pulse"] = map[string]any{"enabled": true, "amqpUrl": "amqp://user:password@host"}
		},
		"settings.mail-from: this s": func(v map[string]any) {
			v["mail"], v["settings"] = map[string]any{"from": "ci@example.com"}, map[string]any{"mail-from": "other@example.com"}
		},
		"rootUrl":                    func(v map[string]any) { delete(v, "rootUrl") },
		"bucket":                     func(v map[string]any) { v["s3"] = map[string]any{} },
		"misspelt":                   func(v map[string]any) { v["misspelt"] = 1 },
		"settings.root-url: this se": func(v map[string]any) { v["settings"] = map[string]any{"root-url": "https://other.example.com"} },
	} {
		values := least()
		change(values)
		if _, err := renderChart(t, values); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
