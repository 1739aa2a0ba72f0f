#!/usr/bin/env bash
# Checks that docs/openapi.json is compatible with the document of the last release, in
# docs/api/. A self-test first breaks the document in many ways, and checks that each break is
# reported.
set -euo pipefail
cd "$(dirname "$0")/.."

# Python writes no files beside the sources, and uses no packages of the user.
check() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONPATH=deploy python3 -m openapi_checks "$@"
}
check --self-test
check
