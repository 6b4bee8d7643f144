package cluster_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"extauthz/e2e/harness"
)

// TestHelmTest runs what `helm test` runs, the commands of the chart's test pod, against a server: they succeed
// while it serves, and fail when it does not. The addresses are Services of the release with that port.
func TestHelmTest(t *testing.T) {
	for _, values := range []string{"default-values.yaml", "everything-values.yaml"} {
		t.Run(values, func(t *testing.T) {
			r := render(t, readValues(t, filepath.Join(chartDir, "ci", values)))
			pods := slices.DeleteFunc(all[*corev1.Pod](r), func(p *corev1.Pod) bool { return p.Annotations["helm.sh/hook"] != "test" })
			if len(pods) != 1 {
				t.Fatalf("%d pods of tests", len(pods))
			}
			server := harness.StartExtauthz(t, harness.Settings{})
			serves := map[string]string{"9191": server.Addr, "9192": server.Admin}
			run := func(c corev1.Container, timeout string) error {
				args := slices.Clone(c.Args)
				at, limit := slices.Index(args, "--address")+1, slices.Index(args, "--timeout")+1
				host, port, err := net.SplitHostPort(args[at])
				if err != nil || !hasService(r, host, port) || serves[port] == "" {
					t.Fatalf("%s: no Service of the release is %s (%v)", c.Name, args[at], err)
				}
				args[at], args[limit] = serves[port], timeout
				return exec.CommandContext(t.Context(), harness.Extauthz(t), args...).Run()
			}
			for _, c := range pods[0].Spec.Containers {
				if err := run(c, "30s"); err != nil {
					t.Errorf("%s %q: %v", c.Name, c.Args, err)
				}
			}
			server.Kill()
			for _, c := range pods[0].Spec.Containers {
				if err := run(c, "1s"); err == nil {
					t.Errorf("%s succeeds without a server", c.Name)
				}
			}
		})
	}
}

// hasService reports whether the release has a Service with this name and port.
func hasService(r *release, name, port string) bool {
	return slices.ContainsFunc(all[*corev1.Service](r), func(s *corev1.Service) bool {
		return s.Name == name && slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return strconv.Itoa(int(p.Port)) == port })
	})
}
