# Scoria. `make help` lists the targets.
SHELL       := /bin/bash
GO          ?= go
BIN         := bin/scoria
TOOLS       := bin/tools
GOLANGCI    := $(TOOLS)/golangci-lint
GOLANGCI_V  := v2.15.0
GOVULN      := $(TOOLS)/govulncheck
GOVULN_V    := v1.9.0
RELEASE     ?= 0.1.0
LDFLAGS     := -s -w -X github.com/scoria-storage/scoria/internal/cli.Release=$(RELEASE)
DEBIAN      := qemu-utils libnbd-bin fuse3 xfsprogs e2fsprogs python3-openstackclient python3-cinderclient spin
# The race detector makes everything several times slower: each package gets this long.
TIMEOUT     ?= 10m

# The binary, the tests and the linter are built with the same settings, so that each package is compiled once; with the race detector once more.
export CGO_ENABLED := 0
export GOFLAGS     := $(strip -trimpath $(filter-out -trimpath,$(shell $(GO) env GOFLAGS)))

.PHONY: help build run deps test model check lint race vuln long mutants bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/scoria, static
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) .

run: build ## build and start everything, with its data under ./data
	@$(BIN) up --data ./data

deps: ## install what the tests need from Debian (as root, or by sudo)
	@.ci/deps $(DEBIAN)

test: deps build model ## all tests
	SCORIA_BIN=$(abspath $(BIN)) $(GO) test -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v /kvlock/model)

model: deps ## check the protocol of the locks in all its states, and print how many there are
	@out=$$(mktemp) && trap 'rm -f $$out' EXIT && \
	{ $(GO) test -timeout $(TIMEOUT) -v ./kvlock/model >$$out || { cat $$out; exit 1; }; } && grep -E ' states| steps,|^ok' $$out

check: lint race vuln ## lint, race detector, import directions, known vulnerabilities

lint: $(GOLANGCI)
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'gofmt would change these files'; exit 1; }
	$(GO) vet ./...
	$(GOLANGCI) run --timeout 15m ./...
	$(GO) test -run '^TestImport' ./integration/layers ./kvlock ./saga

race: deps build
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $$($(GO) list ./... | grep -v /integration)

vuln:
	@.ci/vuln $(GOVULN) $(GOVULN_V)

long: deps build ## hours of random histories; prints its seeds (SCORIA_LONG=6h make long)
	SCORIA_BIN=$(abspath $(BIN)) SCORIA_LONG=$${SCORIA_LONG:-1h} $(GO) test -count=1 -timeout 0 -v -run 'Long' ./integration/... ./kvlock/sim ./kvlock/model ./kvlock/linearizability ./kvlock/mutants

mutants: ## put faults into kvlock on purpose: a test must find each
	$(GO) test -count=1 -timeout $(TIMEOUT) -v -run '^TestEachMutantIsFound$$' ./kvlock/mutants

bench: build ## the figures of the README
	$(BIN) bench api
	$(BIN) bench data

clean: ## remove what was built
	rm -rf bin

$(GOLANGCI):
	GOBIN=$(abspath $(TOOLS)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_V)
