"""Shows that each rule works: its own breaks are reported, by this rule alone."""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from .kustomize import render
from .objects import Object
from .problems import Problem, find_problems
from .rules import RULES

BREAKS = [(rule, mutation) for rule in RULES for mutation in rule.breaks]


@cache
def rendered(overlay: str) -> list[Object]:
    return render(overlay)


@cache
def known_problems(overlay: str) -> set[Problem]:
    return set(find_problems(rendered(overlay)))


def reporting(at: int) -> set[str]:
    """The rules that report this break."""
    _, mutation = BREAKS[at]
    found = find_problems(mutation.applied_to(rendered(mutation.overlay)))
    return {problem.rule for problem in found if problem not in known_problems(mutation.overlay)}


def run() -> int:
    """Applies every break of every rule. Returns the number of failures."""
    failures = 0
    for rule in RULES:
        if not rule.breaks:
            print(f"self-test: {rule.name} has no break: declare one beside the rule")
            failures += 1
    # Each process begins with what is known of the unbroken overlays.
    for overlay in {mutation.overlay for _, mutation in BREAKS}:
        known_problems(overlay)
    with ProcessPoolExecutor(mp_context=get_context("fork")) as processes:
        reports = list(processes.map(reporting, range(len(BREAKS)), chunksize=8))
    for (rule, mutation), rules in zip(BREAKS, reports, strict=True):
        if rules != {rule.name}:
            print(f"self-test: {mutation.overlay}, {mutation.description}: expected a report by {rule.name} alone, "
                  f"but the reporting rules are: {', '.join(sorted(rules)) or 'none'}")
            failures += 1
    if not failures:
        print(f"self-test: {len(RULES)} rules, {len(BREAKS)} breaks: each break is reported by its own rule alone")
    return failures
