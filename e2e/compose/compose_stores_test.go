package compose_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"extauthz/e2e/harness"
)

// loadProfile returns the services of docker-compose.yml under a profile.
func loadProfile(t *testing.T, profile string) types.Services {
	t.Helper()
	root := harness.Root(t)
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root), cli.WithProfiles([]string{profile}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project.Services
}

// A profile runs the files of its example: two extauthz over one database.
func TestComposeProfiles(t *testing.T) {
	pinned := regexp.MustCompile(`^(postgres:15|redis:7)\.[0-9.]+$`)
	for profile, port := range map[string]string{"postgres": "10001", "redis": "10002"} {
		t.Run(profile, func(t *testing.T) {
			root := harness.Root(t)
			services := loadProfile(t, profile)
			envoy, database := services["envoy-"+profile], services[profile]
			if want := "envoyproxy/envoy:v" + pinnedEnvoy(t, root); envoy.Image != want || !pinned.MatchString(database.Image) {
				t.Errorf("images %s, want %s, and %s", envoy.Image, want, database.Image)
			}
			if len(envoy.Ports) < 1 || envoy.Ports[0].Published != port || envoy.Ports[0].Target != 10000 || reachable(envoy.Ports) {
				t.Errorf("published: %+v", envoy.Ports)
			}
			command := inPlace(t, envoy, envoy.Command)
			run(t, harness.Envoy(t), append(command[1:], "--mode", "validate", "--disable-hot-restart")...)
			programs := 0
			for name, s := range services {
				if !slices.Contains(s.Profiles, profile) || name == envoy.Name {
					continue
				}
				if s.NetworkMode != "service:envoy-"+profile {
					t.Errorf("%s does not share Envoy's network: %q", name, s.NetworkMode)
				}
				if s.Build == nil || s.Build.Target != "extauthz" {
					continue
				}
				programs++
				run(t, harness.Extauthz(t), append(inPlace(t, s, s.Command), "--help")...) // every flag is known
				run(t, harness.Extauthz(t), "validate", "--config", argument(t, inPlace(t, s, s.Command), "--config"))
			}
			if programs < 3 {
				t.Errorf("%d services run extauthz", programs)
			}
		})
	}
}

// reachable reports whether other machines can reach a published port.
func reachable(ports []types.ServicePortConfig) bool {
	return slices.ContainsFunc(ports, func(p types.ServicePortConfig) bool { return p.HostIP != "127.0.0.1" })
}
