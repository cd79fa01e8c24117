# Targets for people. `make help` lists them.

BIN := bin/taskcluster
GO  ?= go

.DEFAULT_GOAL := help
.PHONY: help build run test test-quick soak bench fuzz generate lint clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## build bin/taskcluster
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/taskcluster

run: build ## build, start everything on http://localhost:8080 with a local worker, run the example, keep serving
	@./scripts/run

test: ## install what the tests need, then run every test with the race detector
	@./scripts/test

test-quick: ## run the tests that need only Go, without the race detector
	$(GO) test ./client/... ./internal/... ./services/... ./worker/...

soak: ## mistreat deployments for half an hour: kills, restarts, cut connections, full disks, clocks set (KILLS=60 RESTARTS=20 CUTS=60 FAULTS=20 FILLS=10 JUMPS=20)
	@./scripts/soak

bench: build ## measure this machine: prints JSON
	$(BIN) bench --self

fuzz: ## run every fuzz target for a bounded time (FUZZTIME=20s each)
	@./scripts/fuzz

generate: ## regenerate schemas, types and the client after a change of a method or schema
	$(GO) generate ./...

lint: ## check formatting and vet
	@./scripts/lint

clean: ## remove what was built (never data)
	rm -rf bin node_modules test/conformance/node_modules
