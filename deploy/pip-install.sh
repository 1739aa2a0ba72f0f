#!/usr/bin/env bash
# Installs pinned wheels into a folder: pip-install.sh REQUIREMENTS FOLDER
#
# Only the files named by the pins' hashes are installed, without building
# anything. The user's own settings of pip have no effect on the result.
set -euo pipefail
PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore exec python3 -m pip install --quiet --no-input \
    --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$1" --target "$2"
