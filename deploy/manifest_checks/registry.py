"""The registry of rules: `@rule` adds a check and its breaks. `rules.RULES` has them all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .breaks import Break
from .objects import Manifests

# A check yields each violation as its place and its explanation.
Violations = Iterator[tuple[str, str]]
Check = Callable[[Manifests], Violations]


@dataclass(frozen=True)
class Rule:
    """A check, and the mutations that its self-test applies."""

    name: str
    check: Check
    breaks: tuple[Break, ...]


registered: list[Rule] = []


def rule(*breaks: Break) -> Callable[[Check], Check]:
    """Registers a check under its function's name, with dashes for underscores."""
    def register(check: Check) -> Check:
        registered.append(Rule(check.__name__.replace("_", "-"), check, breaks))
        return check
    return register
