"""The command line of the checks. deploy/check-manifests.sh runs it."""

import argparse
import sys

from . import self_test
from .kustomize import RenderError, overlays, render, unused_components
from .objects import Manifests
from .problems import find_problems
from .programs import require_built_programs
from .requests import README, sentence
from .rules import RULES


def check() -> int:
    """Checks every overlay. Returns the number of problems."""
    require_built_programs()
    failures = 0
    for component in unused_components():
        print(f"k8s/components/{component}: no overlay includes this component, so no rule checks it: "
              "add it to an overlay in k8s/tests")
        failures += 1
    for overlay in overlays():
        failures += check_overlay(overlay)
    return failures


def check_overlay(overlay: str) -> int:
    try:
        objects = render(overlay)
    except RenderError as error:
        print(f"k8s/{overlay}: {error}")
        return 1
    problems = [str(problem) for problem in find_problems(objects)]
    if overlay.startswith("overlays/") and (shown := sentence(Manifests(objects))) not in README.read_text():
        problems.append(f"k8s/README.md must say: {shown}")
    for problem in problems:
        print(f"k8s/{overlay}: {problem}")
    if not problems:
        print(f"k8s/{overlay}: {len(objects)} objects, {len(RULES)} rules: no violation")
    return len(problems)


def main() -> int:
    parser = argparse.ArgumentParser(prog="manifest_checks", description="Checks the manifests in k8s/.")
    parser.add_argument("--self-test", action="store_true", help="break the manifests, and check that each rule reports it")
    arguments = parser.parse_args()
    failures = self_test.run() if arguments.self_test else check()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
