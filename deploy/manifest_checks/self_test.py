"""Shows that each rule works: its own breaks are reported, by this rule alone."""

from .kustomize import render
from .problems import find_problems
from .rules import RULES


def run() -> int:
    """Applies every break of every rule. Returns the number of failures."""
    overlays = {mutation.overlay for rule in RULES for mutation in rule.breaks}
    objects = {overlay: render(overlay) for overlay in overlays}
    known_problems = {overlay: set(find_problems(rendered)) for overlay, rendered in objects.items()}
    failures = 0
    for rule in RULES:
        if not rule.breaks:
            print(f"self-test: {rule.name} has no break: declare one beside the rule")
            failures += 1
        for mutation in rule.breaks:
            found = find_problems(mutation.applied_to(objects[mutation.overlay]))
            reporting = {problem.rule for problem in found if problem not in known_problems[mutation.overlay]}
            if reporting != {rule.name}:
                print(f"self-test: {mutation.overlay}, {mutation.description}: expected a report by {rule.name} alone, "
                      f"but the reporting rules are: {', '.join(sorted(reporting)) or 'none'}")
                failures += 1
    if not failures:
        breaks = sum(len(rule.breaks) for rule in RULES)
        print(f"self-test: {len(RULES)} rules, {breaks} breaks: each break is reported by its own rule alone")
    return failures
