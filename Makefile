# `make help` lists the targets from the comments behind them.

BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
PASSBOOK := $(BUILT)/passbook
CHAOS := $(BUILT)/chaos
BENCH := $(or $(CARGO_TARGET_DIR),target)/release/bench
# The programs of a running system. `make run` compiles only these.
PROGRAMS := --package passbook --package account-service --package transaction-service \
	--package report-service --package webhook-service
STACK := .passbook

.DEFAULT_GOAL := help
# One target at a time, even with -j: cargo itself uses all processors.
.NOTPARALLEL:
.PHONY: help run demo test check fuzz chaos reliability bench bench-quick images test-images test-api test-clients verify prepare clean reset build build-all release \
        check-format check-migrations check-metadata check-lints check-reports check-manifests check-observability check-dependencies check-docs \
        check-openapi check-files

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## start the whole system, move some money, run until Ctrl-C
	@exec $(PASSBOOK) dev up --demo --dir $(STACK)

demo: build ## start the whole system, move some money, check every amount, stop
	@exec $(PASSBOOK) dev demo --dir $(STACK)

# Most tests wait for other processes, so more of them run than there are processors to use.
test: export RUST_TEST_THREADS ?= 5
test: build-all ## run every test, against real servers
	cargo test --workspace --no-fail-fast

# The checks of files take one processor, so they run beside those that compile.
check: check-format check-migrations check-metadata check-openapi check-reports ## check format, SQL, OpenAPI, lints, statements, manifests, alerts, dependencies, docs
	@files=$$(mktemp); $(MAKE) --no-print-directory check-files >$$files 2>&1 & beside=$$!; \
	$(MAKE) --no-print-directory check-lints check-docs; compiled=$$?; \
	wait $$beside; checked=$$?; cat $$files; rm -f $$files; [ $$compiled = 0 ] && [ $$checked = 0 ]

# `make test` runs each target for two seconds, without coverage.
fuzz: ## fuzz the parsers, guided by coverage (38 minutes): make fuzz TARGET=amounts SECONDS=3600
	deploy/fuzz.sh $(or $(TARGET),all) $(or $(SECONDS),60)

chaos: build-all ## inject faults in a random order: make chaos ARGS="--seed 7 --seconds 120"
	@exec $(CHAOS) $(ARGS)

# Every module of tests/it with a test that docs/reliability.md names, and their siblings. Each filter
# is a part of a name: `stores::` includes `stores::reports`.
RELIABILITY = faults:: chaos:: graceful_stop:: reports:: frozen:: slow_disks:: addresses:: vanished_hosts:: older_store:: \
              memory_limit:: descriptors:: row_locks:: poison:: invalid_messages:: max_deliveries:: redrive:: clocks:: \
              storage:: streams:: database_modes:: asynchronous_standby:: long_reads:: unknown_outcomes:: restore:: \
              stores:: events:: webhooks:: token_keys:: silent_connections:: \
              unread_responses:: api_keys::

reliability: build-all release ## the fault tests at the sizes of docs/reliability.md, with figures (over an hour)
	PASSBOOK_TESTS_FULL_SIZE=1 cargo test -p tests --test it -- --nocapture --test-threads 1 $(RELIABILITY)

bench: release ## measure the system beside pgbench and wrk, write a report (over 20 minutes): make bench ARGS="--only drain"
	@exec $(BENCH) $(ARGS)

bench-quick: release ## a shorter benchmark (3 minutes)
	@exec $(BENCH) --quick $(ARGS)

verify: ## check the invariants of the running system (`make run`)
	@$(PASSBOOK) verify --dir $(STACK)

images: ## build the container images with docker, podman or buildah: make images ARGS="…"
	deploy/images.sh $(ARGS)

test-images: ## run the system from its images and manifests: needs podman, runc, mmdebstrap
	deploy/test-images.sh

test-api: build-all ## send made-up requests to a running system, run the examples (2 minutes): make test-api ARGS="--seed 7"
	deploy/test-api.sh $(ARGS)

test-clients: build-all ## make TypeScript, Python and Java clients, use a system through them: make test-clients ARGS="python"
	deploy/test-clients.sh $(ARGS)

prepare: ## update the SQL metadata and the OpenAPI document after a change to a statement or the API
	deploy/sqlx-metadata.sh prepare
	cargo run --package openapi -- write

clean: ## remove build outputs (not the data)
	cargo clean

reset: build ## remove the data of a stopped `make run`
	@if [ -e $(STACK)/lock ] && ! flock --nonblock $(STACK)/lock true; then \
		echo "a stack runs in $(STACK): stop it first" >&2; exit 1; fi
	@echo "removing $(STACK): every account, record and transaction, the secrets and the logs"
	@PASSBOOK_LOG=warn $(PASSBOOK) dev down --remove-data --dir $(STACK)

build:
	cargo build $(PROGRAMS) --bins

build-all:
	cargo build --workspace --bins

# Link-time optimization is most of the time, once for each program: only the needed ones.
release:
	cargo build $(PROGRAMS) --package bench --bins --release

check-files: check-observability check-dependencies
	deploy/check-manifests.sh

check-format:
	cargo fmt --all --check
	@if grep -rnF '#[test]' crates/model/src; then \
		echo "cargo would not run these tests: move them to crates/model/tests"; exit 1; fi

check-metadata: build-all
	deploy/sqlx-metadata.sh check

# docs/openapi.json is made from the handlers, and stays compatible with the last release's.
check-openapi: build-all
	$(BUILT)/openapi check
	deploy/check-openapi.sh

check-migrations:
	deploy/check-migrations.sh

# CI requires promtool. Elsewhere, the other checks can run without it.
check-observability:
	@if command -v promtool >/dev/null || [ -n "$$CI" ]; then deploy/observability/check.sh; \
	else echo "alerts and dashboards were not checked: install promtool (Debian's package prometheus)"; fi

check-manifests: build-all
	deploy/check-manifests.sh

# Nothing is linked, so the path keeps libFuzzer from being compiled.
check-lints:
	cargo clippy --locked --workspace --all-targets -- -D warnings
	CUSTOM_LIBFUZZER_PATH=/none/libfuzzer.a cargo clippy --locked --workspace --no-default-features \
		--features fuzz/libfuzzer --bins -- -D warnings

# Statements in each format, read by programs that know nothing of Passbook.
check-reports:
	deploy/check-reports.sh

check-dependencies:
	deploy/check-dependencies.sh

check-docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
