package examples_test

import (
	"flag"
	"testing"
)

// Tests mostly wait for programs, so that more of them run in parallel than there are processors.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // the flag exists
	m.Run()
}
