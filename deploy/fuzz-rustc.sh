#!/bin/sh
# Compiles a crate with what libFuzzer needs: counters of branches, and calls at comparisons. For
# cargo, as RUSTC_WORKSPACE_WRAPPER: $1 is rustc. Build scripts are not linked with libFuzzer.
case " $* " in
*' --crate-name build_script_'* | *' -vV '* | *' --print='*) exec "$@" ;;
esac
exec "$@" \
    -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
