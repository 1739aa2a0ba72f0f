#!/usr/bin/env bash
# Runs the fuzz targets of crates/fuzz under libFuzzer, guided by coverage, with the stable
# toolchain and a C++ compiler.
#
#   deploy/fuzz.sh TARGET SECONDS      one target, or all of them in turn
#   deploy/fuzz.sh minimize TARGET     makes the committed corpus the smallest set of inputs with
#                                      the coverage of it and of what earlier runs found
#
# An input that fails is written to target/fuzz/TARGET. Add it to crates/fuzz/corpus/TARGET with
# the correction.
set -euo pipefail
cd "$(dirname "$0")/.."

built=${CARGO_TARGET_DIR:-target}
corpus=crates/fuzz/corpus
# Maximum bytes of an input.
longest=4096

# Only the crates of the workspace are compiled again, for libFuzzer: the others stay as they are.
RUSTC_WORKSPACE_WRAPPER=$PWD/deploy/fuzz-rustc.sh \
    cargo build --locked --workspace --features fuzz/libfuzzer --bin fuzz

run() {
    local target=$1
    shift
    mkdir -p "$built/fuzz/$target/found"
    PASSBOOK_FUZZ_TARGET=$target "$built/debug/fuzz" -max_len=$longest -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="$built/fuzz/$target/" "$@"
}

fuzz() {
    run "$1" -dict=crates/fuzz/dictionary.txt -max_total_time="$2" -print_final_stats=1 \
        "$built/fuzz/$1/found" "$corpus/$1"
}

minimize() {
    local least=$built/fuzz/$1/least
    rm -rf "$least"
    mkdir -p "$least"
    run "$1" -set_cover_merge=1 "$least" "$corpus/$1" "$built/fuzz/$1/found"
    rm -f "$corpus/$1"/*
    cp "$least"/* "$corpus/$1/"
}

case ${1:-} in
'')
    echo "usage: deploy/fuzz.sh TARGET|all SECONDS, or deploy/fuzz.sh minimize TARGET" >&2
    exit 2
    ;;
minimize)
    minimize "$2"
    ;;
all)
    failed=()
    for folder in "$corpus"/*/; do
        target=$(basename "$folder")
        fuzz "$target" "${2:-60}" || failed+=("$target")
    done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "failed: ${failed[*]}; their inputs are in $built/fuzz" >&2
        exit 1
    fi
    ;;
*)
    fuzz "$1" "${2:-60}"
    ;;
esac
