"""Facts about this checkout: its folders and its version."""

import os
import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
CARGO_TOML = tomllib.loads((ROOT / "Cargo.toml").read_text())
VERSION: str = CARGO_TOML["workspace"]["package"]["version"]
# A Job's name carries the version in this form.
DASHED_VERSION = VERSION.replace(".", "-")
# cargo's output folder for debug builds.
BUILT = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
