# interqos: build, test and lint. `make help` lists the targets.

SHELL      := /bin/bash
GO         ?= go
BIN        := bin
BUILD      := build

# The pinned version of the lint tool; each version is built once and kept.
LINT_VERSION := v2.15.0
LINT_DIR     := $(BUILD)/tools/golangci-lint-$(LINT_VERSION)
LINT         := $(LINT_DIR)/golangci-lint

# The race detector needs cgo and a C compiler.
CC_FOUND := $(shell test "$$($(GO) env CGO_ENABLED)" = 1 && command -v $$($(GO) env CC) 2>/dev/null)
RACE     := $(if $(CC_FOUND),-race)

PKGS      ?= ./...
TESTFLAGS ?=
# How often each fuzz target runs. A time such as 5s is possible, too, but where
# the machine is busy its end may be reported as a failure (Go issue 75804).
FUZZTIME  ?= 50000x
# The labs are many processes on fixed addresses: one after the other, beside nothing.
ALL        = $(or $(shell $(GO) list $(PKGS)),$(error no packages in "$(PKGS)"))
LABS       = $(strip $(foreach p,$(ALL),$(if $(findstring /labs/,$(p)),$(p))))
NOT_LABS   = $(strip $(foreach p,$(ALL),$(if $(findstring /labs/,$(p)),,$(p))))
MAX_LINES := 800

.DEFAULT_GOAL := help
.PHONY: help build test skips demo bench flood microbench fuzz-short conformance rfc-map lab \
        lint lint-fmt lint-vet lint-tidy lint-length lint-rfcmap lint-go lint-layers clean

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

build: ## build every command into bin/
	@mkdir -p $(BIN)
	@$(GO) build -o $(BIN)/ ./cmd/...

test: ## run all tests, with -race where a C compiler is there
	@$(if $(RACE),,echo "no C compiler (or CGO_ENABLED=0): the tests run without -race" >&2)
	$(if $(NOT_LABS),$(GO) test $(RACE) -timeout 20m $(TESTFLAGS) $(NOT_LABS))
	$(if $(LABS),$(GO) test $(RACE) -p 1 -timeout 20m $(TESTFLAGS) $(LABS))

skips: ## run all tests and compare those that skip with .ci/skips.txt
	@mkdir -p $(BUILD) && : >$(BUILD)/test.json
	$(if $(NOT_LABS),$(GO) test -json -timeout 20m $(TESTFLAGS) $(NOT_LABS) >>$(BUILD)/test.json || true)
	$(if $(LABS),$(GO) test -json -p 1 -timeout 20m $(TESTFLAGS) $(LABS) >>$(BUILD)/test.json || true)
	$(GO) run ./internal/skipcheck -list .ci/skips.txt $(BUILD)/test.json

demo: build ## one reservation across three ASs (JSON=1: for scripts; KEEP=1: leave it running)
	@mkdir -p $(BUILD)
	@$(GO) build -o $(BUILD)/demo ./labs/01-three-networks/demo && exec $(BUILD)/demo $(if $(JSON),-json) $(if $(KEEP),-keep)

bench: build ## measure reservations through three ASs; writes build/bench.json
	@mkdir -p $(BUILD)
	@$(GO) run ./labs/01-three-networks/bench

flood: ## 1,000,000 Queries of strangers against 1,000 live sessions, over kernel sockets
	$(GO) test -run '^$$' -bench '^BenchmarkFlood$$' -benchtime 1x ./gist/transport

microbench: ## run the packages' own benchmarks (PKGS=./gist/... for some)
	$(GO) test -run '^$$' -bench . -benchmem $(PKGS)

fuzz-short: ## run every fuzz target a while (FUZZTIME=50000x: so many times)
	@grep -rHoE --include='*_test.go' --exclude-dir=$(BUILD) '^func Fuzz[A-Za-z0-9_]*' . \
	| sed -E 's|/[^/]*:func | |' | sort | { \
	    n=0; while read -r dir target; do \
	        n=$$((n+1)); echo "$$dir $$target"; \
	        $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x "$$dir" || exit 1; \
	    done; echo "$$n fuzz targets, $(FUZZTIME) each, no failure"; }

# How many claims of docs/rfc-map.md are put to the proof; 0: all, ten minutes or more.
ROWS ?= 12

conformance: ## run the tests and recorded cases of each section; then without the code (ROWS=12)
	@$(GO) run ./internal/rfcmap -conformance
	@$(GO) run ./internal/rfcmap -mutate $(ROWS)

lab: ## run the check of one lab: LAB=01-three-networks
	@if [ -z "$(LAB)" ]; then echo "which lab? LAB= one of:"; cd labs 2>/dev/null && ls -d [0-9]*; exit 2; \
	elif [ -x "labs/$(LAB)/run" ]; then exec "labs/$(LAB)/run"; \
	elif [ -d "labs/$(LAB)/demo" ]; then $(MAKE) --no-print-directory build && exec $(GO) run "./labs/$(LAB)/demo"; \
	else echo "labs/$(LAB): no such lab, or it has neither run nor demo" >&2; exit 2; fi

rfc-map: ## write docs/rfc-map.md anew from the section tags in code and tests
	@$(GO) run ./internal/rfcmap

lint: lint-fmt lint-vet lint-tidy lint-length lint-rfcmap lint-go ## all static checks, the layering rules among them
	@echo "lint: ok"

lint-fmt:
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$out" ]; then echo "gofmt: these files are not formatted:"; echo "$$out"; exit 1; fi

lint-vet:
	@$(GO) vet ./...

lint-tidy:
	@$(GO) mod tidy -diff || { echo "go.mod or go.sum is not tidy: run 'go mod tidy'"; exit 1; }

lint-length:
	@git ls-files -co --exclude-standard '*.go' | grep -vE '(\.pb|_gen|_bpfe[lb])\.go$$' | xargs -r wc -l \
	| awk '$$2 != "total" && $$1 > $(MAX_LINES) { print $$2 ": " $$1 " lines, at most $(MAX_LINES)"; bad = 1 } END { exit bad }'

lint-rfcmap:
	@$(GO) run ./internal/rfcmap -check

lint-go: $(LINT)
	@$(LINT) run --timeout 10m ./...

lint-layers: $(LINT) ## prove that the layering rules refuse what they should
	@.ci/layers-bite $(abspath $(LINT))

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once (two minutes or so)" >&2
	@mkdir -p $(LINT_DIR)
	@CGO_ENABLED=0 GOFLAGS= GOBIN=$(abspath $(LINT_DIR)) \
	    $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

clean: ## remove what was built (the lint tool stays)
	@rm -rf $(BIN)
	@find $(BUILD) -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} + 2>/dev/null || true
