package config

import (
	"errors"
	"math"
	"strconv"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// DecisionLog configures which decisions are written to the decision log, one JSON object on each
// line. docs/decision-log.md describes the lines.
type DecisionLog struct {
	// Path is a file, stdout for standard output, or none for no log. A relative path starts
	// from the configuration file's folder. Default: none.
	Path string

	Allowed float64 // the share of allowed requests that is written, from 0 to 1; default: 0.01
	Refused float64 // the share of all other requests; default: 1

	// MaxSize is the size at which the file is rotated, from 1MiB.
	// Default: 100MiB.
	MaxSize Size

	Keep int // how many rotated files are kept, from 1; default: 10

	// OnFull is what happens to a request whose decision cannot be written because the disk is
	// slow or full: drop only counts it, refuse refuses it as UNAVAILABLE. Default: drop.
	OnFull string
}

// The values of [DecisionLog.OnFull], and those of Path that are not files.
const (
	OnFullDrop   = "drop"
	OnFullRefuse = "refuse"

	DecisionsNowhere = "none"
	DecisionsStdout  = "stdout"
)

// A Size is a number of bytes.
type Size int64

func defaultDecisionLog() DecisionLog {
	return DecisionLog{Path: DecisionsNowhere, Allowed: 0.01, Refused: 1, MaxSize: 100 << 20, Keep: 10, OnFull: OnFullDrop}
}

func (r *reader) decisionLog(n *yaml.Node) {
	d := &r.c.DecisionLog
	r.Mapping(n, strictyaml.Fields{
		"path":     func(n *yaml.Node) { r.logPath(n, &d.Path, "decisions.log", DecisionsStdout, DecisionsNowhere) },
		"allowed":  func(n *yaml.Node) { r.share(n, &d.Allowed) },
		"refused":  func(n *yaml.Node) { r.share(n, &d.Refused) },
		"max_size": func(n *yaml.Node) { r.maxSize(n, &d.MaxSize) },
		"keep":     func(n *yaml.Node) { r.number(n, &d.Keep, 1, 100_000) },
		"on_full":  func(n *yaml.Node) { r.oneOf(n, &d.OnFull, OnFullDrop, OnFullRefuse) },
	})
}

// logPath reads the path of a log, or one of the two words for a stream and for no log.
func (r *reader) logPath(n *yaml.Node, to *string, example, stream, nowhere string) {
	s, ok := value(r, n, r.String)
	switch {
	case !ok:
	case s == "":
		r.Errorf(n, "path is empty: write a file such as %s, %s, or %s", example, stream, nowhere)
	case s == stream, s == nowhere:
		*to = s
	default:
		*to = r.resolve(s)
	}
}

var errShare = errors.New("not a share: write a number from 0 to 1, such as 0.01")

// share reads a number from 0 to 1.
func (r *reader) share(n *yaml.Node, to *float64) {
	s, ok := value(r, n, r.Plain)
	if !ok {
		return
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 1) { // NaN is not
		r.Errorf(n, "%q: %v", written(n), errShare)
		return
	}
	*to = math.Abs(v) // of -0
}

// maxSize reads the size of a file, in whole MiB.
func (r *reader) maxSize(n *yaml.Node, to *Size) {
	s, ok := value(r, n, r.Plain)
	if !ok {
		return
	}
	bytes, ok := parseSize(s)
	if !ok || bytes < 1<<20 || bytes%(1<<20) != 0 {
		r.Errorf(n, "%q is not a size: write a whole number of MiB or GiB, such as 100MiB", written(n))
		return
	}
	*to = Size(bytes)
}
