#!/bin/sh
# Compiles a crate with what libFuzzer needs: counters of branches, and calls at comparisons. For
# cargo, as RUSTC_WORKSPACE_WRAPPER: $1 is rustc. A program that is not linked with libFuzzer could
# not be linked.
case " $* " in
*' --crate-name build_script_'* | *' proc-macro '* | *' -vV '* | *' --print='*) exec "$@" ;;
esac
exec "$@" -C opt-level=1 -C debug-assertions=on -C overflow-checks=on \
    -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
