package e2e_test

import (
	"flag"
	"testing"
)

// Most of a test's time is spent waiting for programs: more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4") // there is such a flag
	m.Run()
}
