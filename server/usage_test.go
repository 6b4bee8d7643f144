package server

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// A restarted server replaces its earlier report.
func TestReportName(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	listening, inProcess := &server{}, &server{inProcess: true}
	name := listening.reportName("127.0.0.1:9191")
	if strings.Contains(strings.TrimPrefix(name, hostname(t)), " "+pid) || !strings.HasSuffix(name, " 127.0.0.1:9191") {
		t.Errorf("the name of a listening server is %q", name)
	}
	if got := inProcess.reportName("127.0.0.1:9191"); !strings.HasSuffix(got, " "+pid) || strings.Contains(got, "9191") {
		t.Errorf("the name without a listener is %q", got)
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host
}
