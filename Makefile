# `make help` lists the targets: it reads the comments behind them.

BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
PASSBOOK := $(BUILT)/passbook
CHAOS := $(BUILT)/chaos
BENCH := $(or $(CARGO_TARGET_DIR),target)/release/bench
CRASH_POINTS := account-service/crash-points,transaction-service/crash-points
STACK := .passbook

.DEFAULT_GOAL := help
# One after the other, whatever -j says: cargo uses all processors by itself.
.NOTPARALLEL:
.PHONY: help run demo test check chaos reliability bench bench-quick images test-images verify prepare clean reset build release crash-points \
        check-format check-migrations check-metadata check-lints check-manifests check-observability check-dependencies check-docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## start the whole system, move some money, stay up until Ctrl-C
	@exec $(PASSBOOK) dev up --demo --dir $(STACK)

demo: build ## start the whole system, move some money, check every figure, stop
	@exec $(PASSBOOK) dev demo --dir $(STACK)

test: crash-points ## run every test, against real servers
	cargo test --workspace --no-fail-fast

check: check-format check-migrations check-metadata check-lints check-manifests check-observability check-dependencies check-docs ## check formatting, statements, lints, manifests, alerts, dependencies and docs

chaos: build ## break everything in an order drawn from a seed: make chaos ARGS="--seed 7 --seconds 120"
	@exec $(CHAOS) $(ARGS)

reliability: build release ## the tests of faults at the size that RELIABILITY.md promises, with their figures (half an hour)
	PASSBOOK_TESTS_FULL_SIZE=1 cargo test -p tests --test it -- --nocapture --test-threads 1 faults:: chaos:: graceful_stop::

bench: release ## measure everything beside pgbench, and write a report with plots (20 minutes): make bench ARGS="--only drain"
	@exec $(BENCH) $(ARGS)

bench-quick: release ## the most of it in two minutes, for a first look
	@exec $(BENCH) --quick $(ARGS)

verify: ## check the books of the running system (`make run`)
	@$(PASSBOOK) verify --dir $(STACK)

images: ## build the container images, with docker, podman or buildah: make images ARGS="…"
	deploy/images.sh $(ARGS)

test-images: ## run the system from its images, as the manifests say: needs podman, runc, mmdebstrap
	deploy/test-images.sh

prepare: ## describe the SQL statements anew, after one or a migration was changed
	deploy/sqlx-metadata.sh prepare

clean: ## remove what was built (not the data)
	cargo clean

reset: build ## remove the data of `make run`, unless it runs
	@if [ -e $(STACK)/lock ] && ! flock --nonblock $(STACK)/lock true; then \
		echo "a stack runs in $(STACK): stop it first" >&2; exit 1; fi
	@echo "removing $(STACK): every account, record and transaction, the secrets and the logs"
	@PASSBOOK_LOG=warn $(PASSBOOK) dev down --remove-data --dir $(STACK)

build:
	cargo build --workspace --bins

release:
	cargo build --workspace --bins --release

# The services once more, for tests that let them crash: beside the others, which the last line
# puts back. The copies are made last, so that one older than its plain program is out of date.
crash-points: build
	cargo build --workspace --bin account-service --bin transaction-service --features $(CRASH_POINTS)
	@mkdir -p $(BUILT)/crash-points
	@cp -f $(BUILT)/account-service $(BUILT)/transaction-service $(BUILT)/crash-points/
	@cargo build --workspace --bins

check-format:
	cargo fmt --all --check

check-metadata: build
	deploy/sqlx-metadata.sh check

check-migrations:
	deploy/check-migrations.sh

# In CI it has to be there; elsewhere the rest of the checks is worth having without it.
check-observability:
	@if command -v promtool >/dev/null || [ -n "$$CI" ]; then deploy/observability/check.sh; \
	else echo "alerts and dashboards were not checked: promtool (Debian's package prometheus) is not here"; fi

check-manifests: build
	deploy/check-manifests.sh

check-lints:
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --lib --bins --features $(CRASH_POINTS) -- -D warnings

check-dependencies:
	deploy/check-dependencies.sh

check-docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
