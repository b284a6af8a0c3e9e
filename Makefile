# Postrider. `make` alone says what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Stamping asks git, which refuses in a checkout of another user's.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

version := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
cache := .postrider/tools

# step says what begins, and when: some of it takes minutes.
step = @printf '[%s] %s\n' "$$(date +%H:%M:%S)" "$(1)"

# pinned is the version of a module that tools/$(1)/go.mod requires.
pinned = $(or $(shell awk '$$1 == "require" { $$1 = $$2; $$2 = $$3 } $$1 == "$(2)" { print substr($$2, 2); exit }' tools/$(1)/go.mod),$(error tools/$(1)/go.mod does not require $(2)))
golangci_lint := $(cache)/golangci-lint-$(call pinned,golangci-lint,github.com/golangci/golangci-lint/v2)
workflowcheck := $(cache)/workflowcheck-$(call pinned,workflowcheck,go.temporal.io/sdk/contrib/tools/workflowcheck)
govulncheck := $(cache)/govulncheck-$(call pinned,govulncheck,golang.org/x/vuln)
gotestsum := $(cache)/gotestsum-$(call pinned,gotestsum,gotest.tools/gotestsum)

# build_tool builds the program $(2) of the module in tools/$(1). It appears when
# it is complete, so an interrupted build leaves nothing that looks like one.
define build_tool
	$(call step,building $(@F): once)
	@mkdir -p $(cache)
	@cd tools/$(1) && GOWORK=off GOFLAGS= go build -trimpath -o $(CURDIR)/$@.$$$$ $(2) && mv $(CURDIR)/$@.$$$$ $(CURDIR)/$@
endef

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run everything on this machine: Postgres, Temporal, API, worker, inbox
	@exec bin/postrider dev

.PHONY: build
build: ## Build bin/postrider
	$(call step,building bin/postrider: the first build takes a minute or two)
	@( while sleep 10 >&- 2>&-; do echo "still building"; done ) & alive=$$!; trap "kill $$alive" EXIT; \
	go build -trimpath -ldflags "-X main.version=$(version)" -o bin/postrider ./cmd/postrider

# commit is what an image says that it is built from, as its workers' version.
commit = $(shell git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo dev)

.PHONY: compose-up
compose-up: ## Build the image of this commit and run docker-compose.yml with it
	VERSION=$(commit) docker compose up --build -d

.PHONY: test
test: temporal $(gotestsum) ## Run all tests; nothing needs to be running
	$(call step,tests of the examples)
	@cd examples && env $(own_environment) GOWORK=off $(CURDIR)/$(gotestsum) --format pkgname -- -timeout 5m $(TESTFLAGS) ./...
	$(call step,tests)
	@env $(own_environment) $(gotestsum) --format pkgname -- -timeout 30m $(TESTFLAGS) ./...

# own_environment takes away what dev.env or an operator's shell has set: a test
# must not get at a database in use.
own_environment = $$(env | sed -nE 's/^((POSTRIDER|TEMPORAL)_[A-Z0-9_]+|DATABASE_URL)=.*/-u \1/p' | grep -v POSTRIDER_TEST_ || true)

.PHONY: race
race: ## Run all tests with the race detector; needs a C compiler
	@$(MAKE) test TESTFLAGS=-race

# state is what git sees of the tree, and what changed files hold.
state = git rev-parse --git-dir >/dev/null 2>&1 && { git status --porcelain; git diff HEAD | cksum; }

.PHONY: chaos
chaos: temporal ## Kill and freeze workers at every point of 200 mails, take Postgres, Temporal and relays away; some minutes
	$(call step,chaos: some minutes)
	@env $(own_environment) POSTRIDER_TEST_CHAOS=full go test ./cmd/postrider -run '^(TestChaos|TestFaults)$$' -count=1 -v -parallel 10 -timeout 30m

# bench builds the program, which the product's module does not know, and runs it.
# smtp-sink comes with Debian's package postfix. Installed without a configuration,
# nothing of postfix is ever started.
smtp_sink = PATH="$$PATH:/usr/sbin" command -v smtp-sink >/dev/null 2>&1
define bench
	@if ! $(smtp_sink); then \
		as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
		echo "smtp-sink is missing: installing Debian's package postfix, without a configuration, for the programs in it"; \
		if [ -n "$$as_root" ] && ! command -v sudo >/dev/null; then echo "that takes root: apt-get install postfix" >&2; exit 1; fi; \
		$$as_root apt-get -qq update </dev/null && \
		echo "postfix postfix/main_mailer_type select No configuration" | $$as_root debconf-set-selections && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postfix </dev/null >/dev/null && $(smtp_sink) || \
		{ echo "no smtp-sink after that: install Debian's package postfix by hand" >&2; exit 1; }; \
	fi
	$(call step,building the benchmark)
	@cd bench && GOWORK=off go build -trimpath -o $(CURDIR)/bin/bench .
	$(call step,$(1))
	@env $(own_environment) bin/bench -repo . -doc docs/benchmarks.md -profile .postrider/profiles $(BENCHFLAGS) $(2)
endef

.PHONY: bench
bench: build temporal ## Measure beside bare workflows, River and go-mail, and write docs/benchmarks.md; half an hour, the first time longer
	$(call bench,benchmarks: half an hour; the first time ten minutes more to build the Temporal server (BENCHFLAGS=-short leaves it out))

.PHONY: bench-full
bench-full: build temporal ## The same with 1,000,000 old e-mails and 100,000 mails in one go; an hour
	$(call bench,benchmarks in full: about an hour,-full)
	$(call step,what queries read among 1,000,000 e-mails)
	@env $(own_environment) POSTRIDER_TEST_OLD_EMAILS=1000000 go test ./db/mail -run '^TestQueriesReadWhatTheyNeed$$' -count=1 -timeout 30m

# earlier is where the program of the commit REV is built, to be measured beside this one.
earlier = .postrider/earlier
.PHONY: bench-before
bench-before: build temporal ## Measure this commit and an earlier one in the same rounds: REV=commit; 15 minutes
	@[ -n "$(REV)" ] || { echo "say which commit to measure beside this one: make bench-before REV=commit" >&2; exit 1; }
	$(call step,building postrider of $(REV))
	@rm -rf $(earlier) && mkdir -p $(earlier) && git archive $(REV) | tar -x -C $(earlier) && \
		cd $(earlier) && GOWORK=off go build -trimpath -o postrider ./cmd/postrider
	$(call bench,this commit and $(REV): some 15 minutes,-short -before $(earlier)/postrider -only '^(before-)?(one|batch|accept)$$' -doc '' -profile '')

.PHONY: check
check: ## Format, modules, prose, vet, lint, workflowcheck, vulncheck, tests with the race detector; changes no file
	@before=$$($(state)); \
	$(MAKE) format modules prose vet lint workflowcheck vulncheck race || exit; \
	after=$$($(state)); \
	if [ "$$before" != "$$after" ]; then \
		echo "make check: files have changed meanwhile:" >&2; \
		diff <(echo "$$before") <(echo "$$after") >&2; \
		exit 1; \
	fi

# sources are the directories of this module's packages.
sources = $$(go list -e -f '{{.Dir}}' ./...)

.PHONY: format
format: ## Check that the code is formatted
	$(call step,format)
	@files=$$(gofmt -l $(sources) bench examples) || exit; \
	if [ -n "$$files" ]; then echo "make fmt would change:" >&2; sort -u <<<"$$files" >&2; exit 1; fi

.PHONY: fmt
fmt: ## Format the code
	@gofmt -l -w $(sources) bench examples

.PHONY: modules
modules: ## Check that go.mod and go.sum are tidy, and that the modules are those whose sums they hold
	$(call step,modules)
	@for module in . bench examples; do (cd $$module && GOWORK=off go mod tidy -diff && GOWORK=off go mod verify >/dev/null) || exit; done

.PHONY: vet
vet: ## Run go vet
	$(call step,vet)
	@go vet ./...
	@for module in bench examples; do (cd $$module && GOWORK=off go vet ./...) || exit; done

.PHONY: lint
lint: $(golangci_lint) ## Run golangci-lint
	$(call step,lint)
	@$(golangci_lint) run ./...
	@cd examples && GOWORK=off $(CURDIR)/$(golangci_lint) run --config ../.golangci.yml ./...

.PHONY: prose
prose: ## Look for words and sentences that are hard to understand, in comments and docs
	$(call step,prose)
	@go run ./tools/prose .

.PHONY: workflowcheck
workflowcheck: $(workflowcheck) ## Look for what a workflow must not do
	$(call step,workflowcheck)
	@$(workflowcheck) ./workflows/...
	@cd examples && GOWORK=off $(CURDIR)/$(workflowcheck) ./approval ./digest ./drip ./nexus ./order

# toolchain is what a release is built with. The standard library that vulncheck looks
# at is that one's, whatever Go this machine has.
toolchain = $(or $(shell awk '$$1 == "toolchain" { print $$2 }' go.mod),$(error go.mod names no toolchain))

# vulncheck takes the database from the module golang.org/x/vulndb, as tools/vulndb
# pins it: the Go proxy has it, and its checksum is known. A database that finds nothing
# anywhere would pass too, so the first look is at a module with a known vulnerability.
.PHONY: vulncheck
vulncheck: $(govulncheck) ## Look for known vulnerabilities in what the program calls; two minutes
	$(call step,vulncheck)
	@database=$$(cd tools/vulndb && GOWORK=off GOFLAGS= go mod download -json golang.org/x/vulndb | sed -nE 's/^\t"Dir": "(.*)",$$/\1/p')/data/osv; \
	[ -d "$$database" ] || { echo "vulncheck: no database: \`cd tools/vulndb && go mod download -x golang.org/x/vulndb\` says why" >&2; exit 1; }; \
	scan() { GOWORK=off GOFLAGS= GOTOOLCHAIN=$(toolchain) "$(CURDIR)/$(govulncheck)" -db "file://$$database" ./...; }; \
	known=$$(cd tools/govulncheck/testdata/vulnerable && scan 2>&1); code=$$?; \
	if [ "$$code" -ne 3 ] || [[ "$$known" != *GO-2021-0113* ]]; then \
		echo "vulncheck does not find GO-2021-0113 where it is (exit code $$code):" >&2; echo "$$known" >&2; exit 1; \
	fi; \
	scan || exit; \
	built=$$(go env GOVERSION); \
	if [ "$$built" != "$(toolchain)" ]; then \
		echo "note: vulncheck looked at $(toolchain), which releases are built with; \`make build\` here uses $$built"; \
	fi

.PHONY: histories
histories: temporal ## Record the histories that the replay tests read, from a real Temporal server; a minute
	$(call step,histories)
	@env $(own_environment) POSTRIDER_TEST_HISTORIES=record go test ./cmd/postrider -run '^TestRecordHistories$$' -count=1 -v -timeout 10m

.PHONY: schemas
schemas: ## Write docs/schema and its TypeScript anew, from the types and the API's description
	@go test ./docs/schema -count=1 -update

.PHONY: api-golden
api-golden: ## Write anew what packages email and client export to other programs, which a test compares
	@go test ./internal/archtest -run '^TestThePublishedAPI$$' -count=1 -update

.PHONY: temporal
temporal: ## Build the Temporal CLI that dev and the tests use, unless a good one is on PATH
	$(call step,Temporal CLI: the first build takes minutes)
	@go run ./tools/temporalcli tools/temporal $(cache)

.PHONY: clean
clean: ## Remove what was built; dev's data stays in .postrider
	rm -rf bin .postrider/bin $(cache)

$(golangci_lint):
	$(call build_tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(workflowcheck):
	$(call build_tool,workflowcheck,go.temporal.io/sdk/contrib/tools/workflowcheck)

$(govulncheck):
	$(call build_tool,govulncheck,golang.org/x/vuln/cmd/govulncheck)

$(gotestsum):
	$(call build_tool,gotestsum,gotest.tools/gotestsum)
