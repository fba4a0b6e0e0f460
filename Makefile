# Every target that needs something installed sees to it itself (scripts/setup). The logic is in scripts/.
#
# SERVER=/path/to/server   the server for run, test, bench and demo, instead of the installed one
# ARGS="…"                 passed on to what the target runs

export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
ifdef SERVER
export SERVER
endif

# Prometheus and its exporter are no small things: where they cannot be had, their tests are skipped, and say so.
MONITORING := scripts/setup monitoring || echo 'the tests with Prometheus will be skipped' >&2

FUZZING := scripts/setup fuzz || echo 'nothing will be fuzzed' >&2

.DEFAULT_GOAL := help
.PHONY: help setup build run test test-all test-server-suite test-frameworks soak check check-deps fuzz asan miri bench bench-stampede bench-invalidation demo top docs servers clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-25s %s\n", $$1, $$2 }'
	@echo
	@echo '  SERVER=/path/to/server chooses another than the installed one; ARGS="…" is passed on.'

setup: ## Install what is missing: a server, libclang, a C compiler (apt; root or sudo)
	@scripts/setup

build: setup ## Build the module: target/release/libsmartcache.so
	cargo build --locked --release

run: build ## Start a server with the module and scripts/redis.conf, in the foreground
	@scripts/run $(ARGS)

test: ## Run all tests, the server suite on the installed server
	@scripts/setup clients
	@$(MONITORING)
	@$(FUZZING)
	@scripts/test $(ARGS)

test-all: ## Run the server suite on every server of scripts/servers
	@scripts/setup servers clients
	@$(MONITORING)
	@scripts/test-all $(ARGS)

test-server-suite: setup ## The server's own tests, in Tcl, with the module loaded (an hour; ARGS=unit/type for a part)
	@scripts/setup suite
	@scripts/test-server-suite $(ARGS)

test-frameworks: build ## Tests of Django, Rails, Laravel and others, on a plain server and with MATCH * NATIVE (ARGS=rails)
	@scripts/setup frameworks || echo 'the frameworks that are missing will be skipped' >&2
	@scripts/test-frameworks $(ARGS)

soak: setup ## Two minutes of chaos on the installed server, every answer checked (SECONDS=600 for longer)
	@SMARTCACHE_SOAK_SECONDS=$(or $(SECONDS),120) scripts/soak $(ARGS)

check: setup ## Formatting, layout, lints, documentation, scripts, dependencies, generated docs unchanged
	@scripts/setup checks || echo 'the shell scripts will not be checked' >&2
	@scripts/check

check-deps: ## Licences, sources and advisories of the dependencies; builds cargo-deny first, which takes minutes
	@scripts/setup deny
	@scripts/check-deps

fuzz: setup ## Throw bytes at all that reads them, a minute each (SECONDS=600 for longer, ARGS=glob for one)
	@$(FUZZING)
	@SMARTCACHE_FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz $(ARGS)

asan: setup ## The server suite with the module built for AddressSanitizer (ARGS=rdb:: for a part)
	@scripts/asan $(ARGS)

miri: ## Unit tests of the core in Miri, where it is installed
	@scripts/miri $(ARGS)

bench: build ## Measure against the server's own commands
	cargo bench --locked --bench server -- $(ARGS)

bench-stampede: build ## Measure what a thousand callers of one missing key cause, beside usual remedies
	@scripts/bench-stampede $(ARGS)

bench-invalidation: build ## Measure what ending many keys at once takes, beside usual ways (BIG=1: ten million, too)
	@scripts/bench-invalidation $(ARGS)

demo: build ## Show the main job on real records
	cargo run --locked --quiet --example demo -- $(ARGS)

top: setup ## Watch a server live, by rule (ARGS="redis://user@host:6379"; ARGS=--help for more)
	@cargo run --locked --quiet --example top -- $(ARGS)

docs: setup ## Write the pages in docs/ that are generated from the code
	cargo run --locked --quiet --example docs

servers: ## Fetch real servers to test on into .servers/
	@scripts/setup servers
	@scripts/servers $(ARGS)

clean: ## Remove what was built and what runs left behind (.servers/, .clients/ and .frameworks/ stay)
	cargo clean
	rm -rf .run
