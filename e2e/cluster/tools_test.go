//go:build tools

package cluster_test

// The definitions of the Prometheus operator's kinds are in its module.
import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
