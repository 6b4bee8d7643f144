package check

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// panicError returns a one-line error with the place where a check panicked. The deferred function
// that recovered the value calls it. Unless the value is a runtime error, the error contains only
// its type, since the value may contain a secret.
func panicError(value any) error {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	var where []string
	panicked := false
	for len(where) < 8 {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || f.Function == "runtime.gopanic"
		case panicked:
			where = append(where, fmt.Sprintf("%s (%s:%d)", f.Function, filepath.Base(f.File), f.Line))
		}
		if !more {
			break
		}
	}
	what := fmt.Sprintf("%T", value)
	if err, ok := value.(runtime.Error); ok {
		what = err.Error()
	}
	return fmt.Errorf("the check panicked (%s) in %s", what, strings.Join(where, " < "))
}
