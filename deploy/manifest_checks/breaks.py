"""Breaks: single mutations of a rendered overlay. A rule must report each of its breaks.

A break names an overlay, an object ("Deployment account-service") and mostly a path
in that object. The steps of a path are keys and list indexes, separated by " > ".
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .objects import Object
from .workspace import DASHED_VERSION

# The overlays of most breaks: they include every component.
DEV = "tests/dev-everything"
PROD = "tests/prod-everything"
RESTORED = "tests/restored-database"

# The paths of most breaks: a workload's pod spec, and its first container.
POD = "spec > template > spec"
CONTAINER = f"{POD} > containers > 0"


@dataclass(frozen=True)
class Break:
    """One mutation. `mutate` changes the list of objects in place."""

    overlay: str
    description: str
    mutate: Callable[[list[Object]], None]

    def applied_to(self, objects: list[Object]) -> list[Object]:
        """A mutated copy of the objects."""
        mutated = copy.deepcopy(objects)
        self.mutate(mutated)
        return mutated


def set_field(overlay: str, target: str, path: str, value: Any) -> Break:
    """Sets a field, and creates the objects above it where they are missing."""
    def mutate(objects: list[Object]) -> None:
        parent, key = locate(find(objects, target), path)
        parent[key] = value
    return Break(overlay, f"set {path} of {target} to {value!r}", mutate)


def append(overlay: str, target: str, path: str, value: Any) -> Break:
    """Appends an element to a list."""
    def mutate(objects: list[Object]) -> None:
        parent, key = locate(find(objects, target), path)
        parent[key].append(value)
    return Break(overlay, f"append {value!r} to {path} of {target}", mutate)


def remove_field(overlay: str, target: str, path: str) -> Break:
    """Removes a field or a list element."""
    def mutate(objects: list[Object]) -> None:
        parent, key = locate(find(objects, target), path)
        del parent[key]
    return Break(overlay, f"remove {path} of {target}", mutate)


def remove_object(overlay: str, target: str) -> Break:
    def mutate(objects: list[Object]) -> None:
        objects.remove(find(objects, target))
    return Break(overlay, f"remove {target}", mutate)


def add_object(overlay: str, added: Object) -> Break:
    def mutate(objects: list[Object]) -> None:
        objects.append(copy.deepcopy(added))
    return Break(overlay, f"add {added['kind']} {added['metadata']['name']}", mutate)


def find(objects: list[Object], target: str) -> Object:
    """The one object of that kind and name. A generated ConfigMap ends in a hash."""
    kind, name = target.replace("{version}", DASHED_VERSION).split(" ")
    [found] = [candidate for candidate in objects if candidate["kind"] == kind
               and re.fullmatch(f"{name}(-[a-z0-9]{{10}})?", candidate["metadata"]["name"])]
    return found


def locate(target: Object, path: str) -> tuple[Any, str | int]:
    """The parent of a path's last step, and this step as the key in it."""
    *steps, last = path.split(" > ")
    parent: Any = target
    for step in steps:
        parent = parent[int(step)] if isinstance(parent, list) else parent.setdefault(step, {})
    return parent, int(last) if isinstance(parent, list) else last
