package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A machine describes the hardware and the programs of a run.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	MemoryGB float64           `json:"memory_gib"`
	Kernel   string            `json:"kernel"`
	Date     string            `json:"date"`
	LoadAvg  string            `json:"load_average_at_start"` // above 0.5: the machine had other work
	Versions map[string]string `json:"versions"`
}

func thisMachine(b *bed) machine {
	m := machine{Cores: runtime.NumCPU(), Date: time.Now().UTC().Format(time.DateOnly), Versions: map[string]string{"Go": runtime.Version()}}
	m.CPU = fieldOf("/proc/cpuinfo", "model name")
	var kib float64
	_, _ = fmt.Sscan(fieldOf("/proc/meminfo", "MemTotal"), &kib)
	m.MemoryGB = float64(int(kib/(1<<20)*10)) / 10
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.LoadAvg = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	m.Versions["Envoy"] = output(b.envoy, "--version")
	m.Versions["extauthz"] = output(b.extauthz, "version")
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "google.golang.org/grpc":
				m.Versions["grpc-go"] = d.Version
			case "github.com/open-policy-agent/opa":
				m.Versions["OPA"] = d.Version
			}
		}
	}
	return m
}

// fieldOf returns the value of the first line that begins with name, in the format of /proc.
func fieldOf(file, name string) string {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	text := string(bytes.TrimSpace(out))
	if i := strings.LastIndex(text, "version: "); i >= 0 { // Envoy's: its path, and its commit/version/…
		if parts := strings.Split(text[i+9:], "/"); len(parts) > 1 {
			return parts[1]
		}
	}
	return text
}
