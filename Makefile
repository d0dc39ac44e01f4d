# edgerelay: `make` alone lists the targets.

GO     ?= go
CADDY  := bin/caddy
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GORELEASER  := github.com/goreleaser/goreleaser/v2@v2.15.1
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX   := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

export GOTOOLCHAIN := local

# Code that imports Caddy is compiled with xcaddy's flags, so that one compilation of Caddy (minutes) serves the binary,
# the tests and the linters.
AS_XCADDY := CGO_ENABLED=0 GOFLAGS="$(shell $(GO) env GOFLAGS) -trimpath -tags=nobadger,nomysql,nopgx"
# A hanging test fails with the stacks of all goroutines.
GOTEST := $(GO) test -timeout 25m
# All tests of the product's packages run under the race detector, with these exceptions, which `make race` covers every
# night. Tests that import Caddy would compile it a second time. DRIVERS drive programs in other processes, or compile
# modules for minutes: their own code has little to race. The metering suite has one goroutine and all of the WebAssembly
# specification to run. The hostile modules are compiled within limits of memory that the race detector exceeds.
MODULE = $(shell $(GO) list -m)
LIST_TESTS = $(GO) list -test -f '{{.ImportPath}} {{join .Deps " "}}' ./...
DRIVERS = $(addprefix $(MODULE)/internal/,browser build conformance continuity django guests mesh scaffold soak)
# The longest begin first.
UNRACED = $(MODULE)/internal/e2e $(DRIVERS) $(MODULE)/plugins/internal/metering $(MODULE)/plugins/internal/hostile \
	$(shell $(LIST_TESTS) | sed -n '/^[^ ]*[.]test .*caddyserver.caddy.v2/s/[.]test .*//p')
RACED = $(filter-out $(UNRACED),$(shell $(LIST_TESTS) | sed -n 's/^\([^ ]*\)[.]test .*/\1/p'))
# Most of these tests wait for other programs, so that more packages than cores run at once.
PACKAGES_AT_ONCE ?= 3

# Packages for macOS and Windows; test support needs Linux.
PORTABLE = $(shell $(GO) list ./relay/... ./plugins/... | grep -v 'test$$')

SOURCES = go.mod go.sum xcaddy.json $(shell find caddymodule relay plugins sdk internal examples/demo clients/js/dist -type f -not -path '*/node_modules/*' ! -name '*_test.go' 2>/dev/null)
# Modules within the module: the SDK and the example plugins. The benchmark has rules of its own, deploy/test a target.
NESTED = $(shell find . -mindepth 2 -name go.mod -not -path './bin/*' -not -path './bench/*' -not -path './deploy/*' -not -path '*/node_modules/*' -exec dirname {} \;)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

run: build ## build and start the relay with its demo page on :8013
	@exec $(CADDY) run --config Caddyfile

build: $(CADDY) ## bin/caddy, by xcaddy from xcaddy.json (PGO=deploy/default.pgo: optimized as releases are)

$(CADDY): $(SOURCES)
	@$(GO) run ./internal/build -o $@ $(if $(PGO),-pgo $(PGO))

test: test-deps $(CADDY) ## every test, with real Redis, Django Channels, Daphne and Chromium
	EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(GOTEST) -race $(RACED)
	$(GOTEST) -run FullMesh ./relay/backplane
	@unshare --net true 2>/dev/null && test -c /dev/net/tun || echo "internal/mesh runs in part only: network namespaces cannot be made here (as root they can)"
	EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GOTEST) -p $(PACKAGES_AT_ONCE) $(UNRACED)
	$(GO) -C bench test -timeout 15m -race ./...
	@set -e; for dir in $(NESTED); do echo "$(GO) -C $$dir test ./..."; $(GO) -C $$dir test -timeout 15m ./...; done
	@set -e; for dir in sdk/rust examples/plugins examples/functions; do echo "cargo test in $$dir"; \
		(cd $$dir && cargo test --quiet --offline --target-dir $(CURDIR)/bin/rust); done

race: test-deps $(CADDY) ## every test under the race detector, Caddy included (compiles Caddy again)
	EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(GO) test -timeout 60m -race ./...

test-deps: ## install the programs that the tests need (Debian, as root; nothing if all are present)
	@scripts/install-test-deps.sh

lint: ## gofumpt, go vet, staticcheck, a build for Windows
	@echo gofumpt; unformatted=$$($(GO) run $(GOFUMPT) -l .) && if [ -n "$$unformatted" ]; then echo "not formatted, make fmt does it:"; echo "$$unformatted"; exit 1; fi
	@echo go vet; $(AS_XCADDY) $(GO) vet ./... && $(GO) -C bench vet ./...
	@echo staticcheck; $(AS_XCADDY) $(GO) run $(STATICCHECK) ./... && $(GO) -C bench run $(STATICCHECK) ./...
	@echo go build for Windows; GOOS=windows $(AS_XCADDY) $(GO) build $(PORTABLE)

cross: ## compile for macOS and Windows (CADDY_TOO=1: Caddy as well, minutes)
	@set -e; for os in darwin windows; do echo "go build for $$os"; \
		GOOS=$$os GOARCH=arm64 $(AS_XCADDY) $(GO) build $(if $(CADDY_TOO),./caddymodule/...) $(PORTABLE); done

fmt: ## format the Go files
	@$(GO) run $(GOFUMPT) -l -w .

bench: $(CADDY) ## the benchmark with every peer and the bare loop; tables in bench/results (30 minutes, idle machine)
	$(GO) -C bench run . full
	$(GO) -C bench run . functions

bench-short: $(CADDY) ## the bare loop and the relay alone (two minutes)
	$(GO) -C bench run . short

bench-ci: $(CADDY) ## fails when the relay loses an event or a delivery becomes expensive beside the bare loop (20 seconds)
	$(GO) -C bench run . ci

pgo: $(CADDY) ## renew deploy/default.pgo from a run of bench-short (two minutes, idle machine)
	@scripts/pgo.sh

bench-micro: ## go test -bench of the hot paths; BASE=<commit>: compared with that commit by benchstat
	@scripts/bench-micro.sh $(BASE)

plugins: test-deps ## build the plugins that are committed as .wasm (C, Rust, AssemblyScript)
	@scripts/build-plugins.sh

bench-million: $(CADDY) ## a million idle websockets, or as many as fit: memory, CPU, one event to all, a drain (5 minutes, idle machine)
	$(GO) -C bench run . million

reference: ## docs/configuration.md, docs/commands.md and docs/api.md, from the code and the OpenAPI descriptions
	$(GO) run ./internal/docs reference
	$(GO) run ./internal/docs api
	$(AS_XCADDY) $(GO) run ./caddymodule/cmd/commands

docs-serve: $(CADDY) ## the documentation on :8014, rendered by bin/caddy
	@echo "docs: open http://localhost:8014/ (Ctrl-C stops it)"
	@exec $(CADDY) run --config docs/Caddyfile

dist: ## bin/dist: archives for linux/amd64 and arm64, checksums, bills of materials (goreleaser)
	GOBIN=$(CURDIR)/bin/tools $(GO) install $(CYCLONEDX)
	PATH=$(CURDIR)/bin/tools:$$PATH $(GO) run $(GORELEASER) release --clean --skip=publish \
		$(shell git describe --exact-match --tags >/dev/null 2>&1 || echo --snapshot)

soak: test-deps $(CADDY) ## hours of faults with every feature on: every event accounted for, none missed, nothing leaked (SOAK=10m: less)
	SOAK=$(or $(SOAK),60m) EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test -tags=nobadger,nomysql,nopgx,soak ./internal/soak -run Soak -count 1 -timeout 24h -v
	OFFLINE=20s EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test ./internal/browser -run MissesNothing -count 1 -v
	$(MAKE) continuity CONTINUITY=$(or $(SOAK),60m)

endurance: test-deps $(CADDY) ## a million connections and a site's day: fails when memory, goroutines, files or keys grow (15 minutes)
	ENDURANCE=full EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test ./internal/soak -run 'Churn|Day' -count 1 -timeout 60m -v

compat: test-deps $(CADDY) ## Daphne beside the relay with versions of Django, Channels and channels_redis from PyPI (10 minutes at first)
	@EDGERELAY_CADDY=$(CURDIR)/$(CADDY) scripts/compat.sh
	@scripts/compat-grip.sh
	@scripts/compat-websocket.sh
	@scripts/compat-oci.sh

matrix: test-deps $(CADDY) ## Chromium and Firefox in networks of each kind: events within five seconds, none missed (2 minutes)
	MATRIX=full EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test ./internal/browser -run TestDoors -count 1 -v

continuity: test-deps $(CADDY) ## ten minutes of kills, wipes and cuts: no client misses an event without a word (CONTINUITY=1h: longer)
	CONTINUITY=$(or $(CONTINUITY),full) EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test ./internal/continuity -count 1 -timeout 24h -v

# One row for each scenario and version; BEFORE=<another Caddy>: that one as well, and nodes of both together.
mesh: test-deps $(CADDY) ## relays on networks that misbehave, as root (40 minutes; RESULTS=<name>.json or .md; BEFORE=<caddy>: compared)
	$(if $(BEFORE),-MESH=full MESH_LABEL=before MESH_RESULTS=$(abspath $(RESULTS)) EDGERELAY_CADDY=$(abspath $(BEFORE)) $(MESH_TEST))
	MESH=full MESH_LABEL=now MESH_RESULTS=$(if $(RESULTS),$(abspath $(RESULTS))) MESH_OTHER=$(if $(BEFORE),$(abspath $(BEFORE))) \
		EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(MESH_TEST)
MESH_TEST = $(AS_XCADDY) $(GO) test ./internal/mesh -count 1 -timeout 3h -v

mesh-table: ## the table of docs/backplane.md from the results of make mesh (RESULTS=<name>.json)
	$(GO) run ./internal/mesh/table docs/backplane.md $(RESULTS)

deploy-test: $(CADDY) ## Helm chart, kustomize overlays, compose files, deb and rpm (as root on Debian; compiles Helm at first)
	@command -v shellcheck rpm >/dev/null || apt-get install -y --no-install-recommends shellcheck rpm
	EDGERELAY_CADDY=$(CURDIR)/$(CADDY) CGO_ENABLED=0 $(GO) -C deploy/test test -timeout 20m ./...

vulncheck: ## known vulnerabilities in the code that is called, of every Go module
	@set -e; for dir in . bench sdk/go deploy/test; do echo "govulncheck in $$dir"; \
		GOFLAGS=-tags=nobadger,nomysql,nopgx $(GO) -C $$dir run $(GOVULNCHECK) ./...; done

fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(or $(FUZZTIME),10s)

clean: ## remove build results
	rm -rf bin

.PHONY: deploy-test mesh mesh-table vulncheck matrix pgo help run build test race test-deps lint cross fmt bench plugins reference docs-serve dist soak endurance compat continuity fuzz clean bench-short bench-ci bench-micro bench-million
