# edgerelay: `make` alone lists the targets.

GO     ?= go
CADDY  := bin/caddy
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export GOTOOLCHAIN := local

# What imports Caddy is compiled as xcaddy compiles it, so that one compilation of
# Caddy (minutes) serves the binary, the tests and the linters.
AS_XCADDY := CGO_ENABLED=0 GOFLAGS="$(shell $(GO) env GOFLAGS) -trimpath -tags=nobadger,nomysql,nopgx"
# What does not is tested under the race detector; but for the rewriter of modules, which has one goroutine and
# the whole suite of the WebAssembly specification to go through.
RACED := /relay(/|$$)|/plugins$$

SOURCES = go.mod go.sum xcaddy.json $(shell find caddymodule relay plugins sdk internal examples/demo -type f -not -path '*/node_modules/*' ! -name '*_test.go' 2>/dev/null)
# Modules within the module: the benchmark, the SDK and the example plugins.
NESTED = $(shell find . -mindepth 2 -name go.mod -not -path './bin/*' -not -path './bench/*' -not -path '*/node_modules/*' -exec dirname {} \;)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

run: build ## build and start the relay with its demo page on :8013
	@echo "edgerelay: open http://localhost:8013/ (Ctrl-C stops it)"
	@exec $(CADDY) run --config Caddyfile

build: $(CADDY) ## bin/caddy, by xcaddy from xcaddy.json (PGO=deploy/default.pgo: optimized as releases are)

$(CADDY): $(SOURCES)
	@$(GO) run ./internal/build -o $@ $(if $(PGO),-pgo $(PGO))

test: test-deps $(CADDY) ## every test, with the real Redis, Django Channels, Daphne and Chromium
	$(GO) test -race $$($(GO) list ./... | grep -E '$(RACED)')
	$(GO) test -run FullMesh ./relay/backplane
	$(GO) -C bench test -race ./...
	EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test $$($(GO) list ./... | grep -vE '$(RACED)')
	@set -e; for dir in $(NESTED); do echo "cd $$dir && $(GO) test ./..."; (cd $$dir && $(GO) test ./...); done
	cd sdk/rust && cargo test --quiet --offline --target-dir $(CURDIR)/bin/rust

race: test-deps $(CADDY) ## every test under the race detector, Caddy too (compiles it once more)
	$(GO) test -race ./...

test-deps: ## install what the tests need (Debian, as root; nothing when all is there)
	@scripts/install-test-deps.sh

lint: ## gofumpt, go vet, staticcheck
	@echo gofumpt; unformatted=$$($(GO) run $(GOFUMPT) -l .) && if [ -n "$$unformatted" ]; then echo "not formatted, make fmt does it:"; echo "$$unformatted"; exit 1; fi
	@echo go vet; $(AS_XCADDY) $(GO) vet ./... && $(GO) -C bench vet ./...
	@echo staticcheck; $(AS_XCADDY) $(GO) run $(STATICCHECK) ./... && $(GO) -C bench run $(STATICCHECK) ./...

fmt: ## format the Go files
	@$(GO) run $(GOFUMPT) -l -w .

bench: $(CADDY) ## the benchmark beside every peer and a bare write loop, with table and charts in bench/results (25 minutes, an idle machine)
	$(GO) -C bench run . full

bench-short: $(CADDY) ## the bare loop and the relay alone (two minutes)
	$(GO) -C bench run . short

bench-ci: $(CADDY) ## fails when the relay loses an event, or a delivery gets dear by the measure of the bare loop (20 seconds)
	$(GO) -C bench run . ci

pgo: $(CADDY) ## deploy/default.pgo anew, from what bench-short does (two minutes, an idle machine)
	@scripts/pgo.sh

bench-micro: ## go test -bench of every hot path; BASE=<commit> compares with that one by benchstat
	@scripts/bench-micro.sh $(BASE)

plugins: test-deps ## build the plugins that are committed as .wasm (C, Rust, AssemblyScript)
	@scripts/build-plugins.sh

reference: ## docs/configuration.md, from the comments beside the code
	$(GO) run ./internal/docs reference

docs: ## bin/docs, a static site of the documentation
	$(GO) run ./internal/docs site bin/docs

docs-serve: $(CADDY) docs ## the documentation on :8014, served by bin/caddy
	@echo "docs: open http://localhost:8014/ (Ctrl-C stops it)"
	@exec $(CADDY) run --config docs/Caddyfile

dist: ## bin/dist: archives for linux/amd64 and arm64, checksums, bills of materials
	$(GO) run ./internal/dist

soak: test-deps $(CADDY) ## an hour of faults and reloads: every event accounted for, nothing leaked (SOAK=10m: less)
	SOAK=$(or $(SOAK),60m) EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test -tags=nobadger,nomysql,nopgx,soak ./internal/soak -run Soak -count 1 -timeout 0 -v

endurance: test-deps $(CADDY) ## a million connections and a site's day: fails when memory, goroutines, files or keys grow (15 minutes)
	ENDURANCE=full EDGERELAY_CADDY=$(CURDIR)/$(CADDY) $(AS_XCADDY) $(GO) test ./internal/soak -run 'Churn|Day' -count 1 -timeout 60m -v

fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(or $(FUZZTIME),10s)

clean: ## remove what was built
	rm -rf bin

.PHONY: pgo help run build test race test-deps lint fmt bench plugins reference docs docs-serve dist soak endurance fuzz clean bench-short bench-ci bench-micro
