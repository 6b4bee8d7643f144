package cluster_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// A pod is what some object of a release makes pods of.
type pod struct {
	name   string
	labels map[string]string
	spec   corev1.PodSpec
}

func pods(objects []runtime.Object) (list []pod) {
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			list = append(list, pod{o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *batchv1.Job:
			list = append(list, pod{o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *corev1.Pod:
			list = append(list, pod{o.Name, o.Labels, o.Spec})
		}
	}
	return list
}

// restricted reports what the Pod Security Standard "restricted" has against a pod.
func restricted(t *testing.T, p pod) {
	t.Helper()
	wrong := func(what string) { t.Helper(); t.Errorf("%s: %s", p.name, what) }
	s := p.spec
	if s.HostNetwork || s.HostPID || s.HostIPC {
		wrong("uses the host")
	}
	if c := s.SecurityContext; c == nil || !is(c.RunAsNonRoot, true) || c.SeccompProfile == nil || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		wrong("the pod may run as root, or without seccomp")
	}
	if !is(s.AutomountServiceAccountToken, false) {
		wrong("has a token of the Kubernetes API")
	}
	for _, v := range s.Volumes {
		if v.ConfigMap == nil && v.Secret == nil && v.EmptyDir == nil {
			wrong("has a volume that is neither a ConfigMap, a Secret nor an emptyDir: " + v.Name)
		}
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if x := c.SecurityContext; x == nil || !is(x.RunAsNonRoot, true) || !is(x.AllowPrivilegeEscalation, false) || !is(x.ReadOnlyRootFilesystem, true) ||
			x.Privileged != nil && *x.Privileged || x.Capabilities == nil || !slices.Equal(x.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(x.Capabilities.Add) > 0 ||
			x.SeccompProfile == nil || x.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			wrong("the container " + c.Name + " has more privileges than it needs")
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
			wrong("the container " + c.Name + " does not say what it needs")
		}
		for _, m := range c.VolumeMounts {
			memory := slices.ContainsFunc(s.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.EmptyDir != nil })
			if m.SubPath != "" || m.SubPathExpr != "" || !m.ReadOnly && !memory {
				wrong("the mount " + m.Name + " is a subPath, or can be written to")
			}
		}
		for _, e := range c.Env {
			if e.Value != "" && strings.HasPrefix(e.Name, "EXTAUTHZ_") {
				wrong(e.Name + " is written in the manifest")
			}
		}
	}
}

func is(b *bool, want bool) bool { return b != nil && *b == want }

func TestPodsAreRestricted(t *testing.T) {
	for _, file := range valuesFiles(t) {
		list := pods(render(t, readValues(t, file)).objects)
		if len(list) < 2 {
			t.Fatalf("%s: %v", file, list)
		}
		for _, p := range list {
			restricted(t, p)
		}
	}
}

func selects(t *testing.T, s *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(of))
}

// Services, policies and budgets select the pods that they are for, and no others.
func TestSelectors(t *testing.T) {
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "everything-values.yaml")))
	list := pods(r.objects)
	if len(list) != 4 {
		t.Fatal(list)
	}
	for _, p := range list {
		component := p.labels["app.kubernetes.io/component"]
		for _, s := range all[*corev1.Service](r) {
			got := labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.labels))
			if want := component == "server" && !strings.HasSuffix(s.Name, "-dashboard") || component == "dashboard" && strings.HasSuffix(s.Name, "-dashboard"); got != want {
				t.Errorf("the Service %s selects %s: %v", s.Name, p.name, got)
			}
			for _, port := range s.Spec.Ports {
				if got && !slices.ContainsFunc(p.spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
					return c.Name == port.TargetPort.String() && c.ContainerPort == port.Port
				}) {
					t.Errorf("the Service %s has the port %s, which %s does not", s.Name, port.Name, p.name)
				}
			}
		}
		for _, b := range all[*policyv1.PodDisruptionBudget](r) {
			if selects(t, b.Spec.Selector, p.labels) != (component == "server") {
				t.Errorf("the budget is wrong about %s", p.name)
			}
		}
		for _, n := range all[*networkingv1.NetworkPolicy](r) {
			if want := component == "dashboard" && strings.HasSuffix(n.Name, "-dashboard") || component == "server" && n.Name == "test-extauthz"; selects(t, &n.Spec.PodSelector, p.labels) != want {
				t.Errorf("the policy %s is wrong about %s", n.Name, p.name)
			}
		}
		for _, c := range p.spec.TopologySpreadConstraints {
			if !selects(t, c.LabelSelector, p.labels) {
				t.Errorf("%s is not spread by its own labels", p.name)
			}
		}
	}
}

// The ports that a caller may reach, and who may: Envoys gRPC, monitoring the admin listener.
func TestNetworkPolicy(t *testing.T) {
	envoy := map[string]string{"extauthz-client": "true"}
	prometheus := map[string]string{"app.kubernetes.io/name": "prometheus"}
	r := render(t, nil)
	policies := all[*networkingv1.NetworkPolicy](r)
	if len(policies) != 1 || !slices.Equal(policies[0].Spec.PolicyTypes, []networkingv1.PolicyType{"Ingress"}) || len(policies[0].Spec.Ingress) != 2 {
		t.Fatalf("policies: %+v", policies)
	}
	for _, rule := range policies[0].Spec.Ingress {
		if len(rule.From) != 2 || len(rule.Ports) != 1 {
			t.Fatalf("rule: %+v; one without from lets everyone in", rule)
		}
		for _, from := range rule.From {
			if from.PodSelector == nil || len(from.PodSelector.MatchLabels) == 0 {
				t.Errorf("this lets every pod in: %+v", from)
			}
		}
		port, peer := rule.Ports[0].Port.IntValue(), rule.From[1]
		switch port {
		case 9191:
			if !selects(t, peer.PodSelector, envoy) || selects(t, peer.PodSelector, prometheus) || peer.NamespaceSelector != nil {
				t.Errorf("gRPC: %+v", peer)
			}
		case 9192:
			if !selects(t, peer.PodSelector, prometheus) || selects(t, peer.PodSelector, envoy) || peer.NamespaceSelector == nil {
				t.Errorf("admin: %+v", peer)
			}
		default:
			t.Errorf("port %d", port)
		}
	}

	// An empty list lets no one in; it is not a rule without from, which lets everyone in.
	none := map[string]any{"networkPolicy": map[string]any{"envoys": []any{}, "monitoring": []any{}, "egress": []any{}}}
	n := all[*networkingv1.NetworkPolicy](render(t, none))[0]
	for _, rule := range n.Spec.Ingress {
		if len(rule.From) != 1 || rule.From[0].PodSelector.MatchLabels["app.kubernetes.io/component"] != "test" {
			t.Errorf("an empty list lets in %+v", rule.From)
		}
	}
	if !slices.Contains(n.Spec.PolicyTypes, "Egress") || len(n.Spec.Egress) != 0 {
		t.Errorf("egress: [] does not close: %+v", n.Spec)
	}
}

func TestDefaults(t *testing.T) {
	r := render(t, nil)
	d := all[*appsv1.Deployment](r)[0]
	if *d.Spec.Replicas != 2 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Errorf("%+v", d.Spec)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if !slices.Equal(c.Args, []string{"serve", "--config", "/etc/extauthz/extauthz.yaml"}) || c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.StartupProbe == nil {
		t.Errorf("%+v", c)
	}
	if c.Resources.Limits.Cpu().Sign() != 0 {
		t.Error("a limit of CPU time delays checks")
	}
	if len(all[*autoscalingv2.HorizontalPodAutoscaler](r))+len(all[*batchv1.Job](r)) != 0 || len(all[*policyv1.PodDisruptionBudget](r)) != 1 {
		t.Error("an autoscaler or a Job is there, or no budget")
	}
	config := load(t, all[*corev1.ConfigMap](r)[0].Data["extauthz.yaml"])
	if grace := *d.Spec.Template.Spec.TerminationGracePeriodSeconds; config.Shutdown.Drain+config.Shutdown.Timeout >= time.Duration(grace)*time.Second {
		t.Errorf("the kubelet kills after %d s what takes %v and %v to stop", grace, config.Shutdown.Drain, config.Shutdown.Timeout)
	}
	if !strings.Contains(r.notes, "There are no keys") {
		t.Errorf("notes: %s", r.notes)
	}
}

// With an autoscaler the Deployment has no replicas of its own, which would undo it at each upgrade.
func TestAutoscaler(t *testing.T) {
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "everything-values.yaml")))
	for _, d := range all[*appsv1.Deployment](r) {
		if d.Name == "test-extauthz" && d.Spec.Replicas != nil {
			t.Error("the Deployment has replicas")
		}
	}
	h := all[*autoscalingv2.HorizontalPodAutoscaler](r)[0]
	if h.Spec.ScaleTargetRef.Name != "test-extauthz" || *h.Spec.MinReplicas != 3 || h.Spec.MaxReplicas != 20 {
		t.Errorf("%+v", h.Spec)
	}
	if len(all[*policyv1.PodDisruptionBudget](r)) != 1 {
		t.Error("no budget")
	}
}

// A change of the configuration replaces the pods; one of the keys does not.
func TestChecksum(t *testing.T) {
	sum := func(values map[string]any) string {
		return all[*appsv1.Deployment](render(t, values))[0].Spec.Template.Annotations["checksum/config"]
	}
	key := map[string]any{"id": "key_a", "hash": strings.Repeat("0", 64)}
	before := sum(nil)
	if sum(map[string]any{"store": map[string]any{"yaml": map[string]any{"keys": []any{key}}}}) != before {
		t.Error("a new key replaces the pods")
	}
	if sum(map[string]any{"config": map[string]any{"dry_run": true}}) == before {
		t.Error("a changed configuration does not replace the pods")
	}
}

// The migration runs as a hook, by the owner's Secret, and needs nothing of the release.
func TestMigration(t *testing.T) {
	r := render(t, readValues(t, filepath.Join(chartDir, "ci", "postgres-values.yaml")))
	job := all[*batchv1.Job](r)[0]
	if job.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
		t.Errorf("hook: %v", job.Annotations)
	}
	spec := job.Spec.Template.Spec
	if env := spec.Containers[0].Env[0]; env.ValueFrom.SecretKeyRef.Name != "extauthz-postgres-owner" || spec.ServiceAccountName != "" {
		t.Errorf("%+v", spec)
	}
	for _, m := range all[*corev1.ConfigMap](r) {
		if m.Name == spec.Volumes[0].ConfigMap.Name && m.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
			t.Error("the Job's ConfigMap is not there when it runs")
		}
	}
}
