"""Runs all rules on the objects of one overlay."""

from typing import NamedTuple

from .objects import Manifests, Object
from .rules import RULES


class Problem(NamedTuple):
    """A violation of a rule."""

    rule: str
    where: str
    explanation: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.explanation}"


def find_problems(objects: list[Object]) -> list[Problem]:
    manifests = Manifests(objects)
    return [Problem(rule.name, *violation) for rule in RULES for violation in rule.check(manifests)]
