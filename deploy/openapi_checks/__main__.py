"""The command line of the check. deploy/check-openapi.sh runs it."""

import argparse
import sys
from pathlib import Path

from . import self_test
from .document import Document
from .operations import incompatible_changes

ROOT = Path(__file__).parents[2]
CURRENT = "docs/openapi.json"


def baseline() -> str:
    """The document of the last release, or the draft of the first."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/api").glob("openapi-*.json"))
    if len(found) != 1:
        sys.exit(f"docs/api must have one document, that of the last release, but has: {', '.join(found) or 'none'}")
    return found[0]


def check() -> int:
    """Compares docs/openapi.json with the last release. Returns the number of incompatible changes."""
    released = baseline()
    changes = incompatible_changes(Document.read(ROOT / released), Document.read(ROOT / CURRENT))
    for change in changes:
        print(f"{CURRENT}: {change}")
    if not changes:
        print(f"{CURRENT}: compatible with {released}")
    elif released.endswith("-draft.json"):
        print(f"These changes are incompatible with {released}. If they are meant, run\n"
              f"  cp {CURRENT} {released}\nand say in the commit why. See docs/api/README.md.")
    else:
        print(f"These changes are incompatible with the released {released}, so clients would break: "
              "add beside the old instead. See docs/api/README.md.")
    return len(changes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="openapi_checks", description="Checks that the API's document stays compatible.")
    parser.add_argument("--self-test", action="store_true", help="break the document, and check that each break is reported")
    arguments = parser.parse_args()
    failures = self_test.run(Document.read(ROOT / CURRENT)) if arguments.self_test else check()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
