# Everything that a person or a machine does here, by name. `make help` lists it.

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT      ?= $(shell git rev-parse --short HEAD 2>/dev/null)
BINARY      ?= ./bin/conclave
LDFLAGS      = -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What a leader under load spends its time on: the compiler optimizes for that. It is not called
# default.pgo, by which every go vet and go test would compile all dependencies once more.
PROFILE      = cmd/conclave/leader.pgo

# Versions of the tools, so that everybody gets the same answer.
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
BUF          = github.com/bufbuild/buf/cmd/buf@v1.75.0
GEN_GO       = google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GEN_GO_GRPC  = google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

DEMO_ARGS   ?= --for 40s --kill-leader-every 8s
E2E_KILLS   ?= 20
FUZZTIME    ?= 60s
CHAOS_FOR   ?= 5m
CHAOS_SEED  ?= 0
CHAOS_ARGS  ?=
BENCH_ARGS  ?=

# Each is a package and a target in it.
FUZZ_TARGETS = \
	raftnode:FuzzDamagedStore raftnode:FuzzReadHello batch:FuzzBatcher \
	assign:FuzzIndex assign:FuzzReconcile assign:FuzzTokenFile \
	grpcsvc:FuzzSubmitted grpcsvc:FuzzPageToken grpcsvc:FuzzEndpoint grpcsvc:FuzzValidate \
	cmd/conclave:FuzzFlags \
	fsm:FuzzApply fsm:FuzzDecodeEntry fsm:FuzzReadSnapshot

.PHONY: help build demo test lint proto chaos chaos-mutants bench bench-compare bench-fleet bench-overload bench-scale bench-failover bench-state profile failover fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/conclave, a static binary, optimized by a profile
	CGO_ENABLED=0 $(GO) build -trimpath -pgo $(PROFILE) -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/conclave

demo: build ## run a whole system on this machine, kill its leaders, and judge it
	$(BINARY) dev $(DEMO_ARGS)

test: ## run every deterministic test, with the race detector
	$(GO) test -race -count 1 -timeout 10m ./...
	cd bench && $(GO) test ./...

lint: ## check format, vet and staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not gofmt'd:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd bench && $(GO) vet ./...

proto: ## generate the Go code of the .proto files
	mkdir -p bin/tools
	GOBIN=$(CURDIR)/bin/tools $(GO) install $(BUF)
	GOBIN=$(CURDIR)/bin/tools $(GO) install $(GEN_GO)
	GOBIN=$(CURDIR)/bin/tools $(GO) install $(GEN_GO_GRPC)
	cd proto && PATH=$(CURDIR)/bin/tools:$$PATH buf lint && PATH=$(CURDIR)/bin/tools:$$PATH buf generate

chaos: ## try to break a cluster for CHAOS_FOR and check every invariant; the same CHAOS_SEED draws the same faults
	$(GO) run ./cmd/chaos -for $(CHAOS_FOR) -seed $(CHAOS_SEED) $(CHAOS_ARGS)

chaos-mutants: ## build known bugs into the program, one at a time, and see each of them caught
	$(GO) run ./cmd/chaos -mutants all -for $(CHAOS_FOR) -round 20s -seed $(CHAOS_SEED) $(CHAOS_ARGS)

bench: ## measure joins and load reports through the real binary, on both log stores
	cd bench && $(GO) run ./cmd/loadbench $(BENCH_ARGS)

bench-compare: ## measure joins, reports and reads next to etcd, PostgreSQL and a bare gRPC echo, in one run
	cd bench && $(GO) run ./cmd/comparebench $(BENCH_ARGS)

bench-fleet: ## 100 000 media handlers that report and 300 joins a second, for 2 minutes, by calls and by streams
	cd bench && $(GO) run ./cmd/comparebench -scenario fleet $(BENCH_ARGS)
	cd bench && $(GO) run ./cmd/comparebench -scenario fleet -reports stream $(BENCH_ARGS)

bench-overload: ## twice as many joins and reports as the cluster can take
	cd bench && $(GO) run ./cmd/comparebench -scenario overload $(BENCH_ARGS)

bench-scale: ## 1 000 000 live meetings: heap, joins, restart
	cd bench && $(GO) run ./cmd/comparebench -scenario scale -reports stream $(BENCH_ARGS)

bench-failover: ## measure how long a lost leader stops writes, next to etcd
	cd bench && $(GO) run ./cmd/failoverbench $(BENCH_ARGS)

bench-state: ## measure the state machine with 100 000 nodes and 1 000 000 meetings
	$(GO) test -run '^$$' -bench . -benchtime 20000x -timeout 30m ./fsm

profile: ## take the profile anew that the program is optimized by
	rm -rf bin/profiles
	cd bench && $(GO) run ./cmd/loadbench -stores wal -n 1 -callers 64,512 -time 8s -out ../bin -profiles ../bin/profiles
	$(GO) tool pprof -proto bin/profiles/*.pprof > bin/leader.pgo
	mv bin/leader.pgo $(PROFILE)

failover: ## kill the leader E2E_KILLS times with SIGKILL and measure until the next join
	E2E_KILLS=$(E2E_KILLS) $(GO) test -count 1 -run TestFailover -v -timeout 30m ./e2e

fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for target in $(FUZZ_TARGETS); do \
		echo "$$target"; \
		$(GO) test -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$${target%%:*}; \
	done

clean: ## remove what was built
	rm -rf bin
