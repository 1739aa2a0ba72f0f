"""Compares two schemas.

A request must still be accepted: the new schema has to accept all that the old one accepts. A
response must still be understood: the new schema may have only what the old one has, and
properties beside it. Of the two schemas, `inner` is thus the one whose values the other one,
`outer`, must accept.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from .document import Document, Json

PROSE = {"title", "description", "example", "examples", "deprecated", "$comment"}
# With the value that is as good as none.
LOWER_BOUNDS = {"minimum": None, "exclusiveMinimum": None, "minLength": 0, "minItems": 0, "minProperties": 0}
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
# A value with the first format is one with the second.
WIDER_FORMATS = {("int32", "int64"), ("float", "double")}
COMPARED = {"type", "enum", "const", "pattern", "format", "multipleOf", "uniqueItems", "items", "properties", "required",
            "additionalProperties", "propertyNames", *LOWER_BOUNDS, *UPPER_BOUNDS}


class Direction(Enum):
    REQUEST = "in a request"
    RESPONSE = "in a response"


class Change(NamedTuple):
    """An incompatible change."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Alternative(NamedTuple):
    """One of the forms of a value: it has at most one type."""

    component: str | None
    schema: Json

    @property
    def type(self) -> str | None:
        return self.schema.get("type")

    @property
    def label(self) -> str:
        return self.schema.get("title") or self.component or shown(self.type)


class Comparison:
    """Compares schemas of one direction. A change of a component is found once, where it is first used."""

    def __init__(self, old: Document, new: Document, direction: Direction) -> None:
        self.old, self.new, self.direction = old, new, direction
        self.compared: set[tuple[str | None, ...]] = set()

    def changes(self, where: str, old: Json, new: Json) -> Iterator[Change]:
        if not old and not new:
            return
        inner, outer = self.swapped(list(alternatives(self.old, old)), list(alternatives(self.new, new)))
        for one in inner:
            yield from self.not_accepted(where, one, inner, outer)

    def not_accepted(
        self, where: str, one: Alternative, inner: list[Alternative], outer: list[Alternative],
    ) -> Iterator[Change]:
        """Why none of the outer alternatives accepts this one."""
        of_type = [other for other in outer if accepts_type(one.type, other.type)]
        if not of_type:
            old, new = self.swapped(*(" or ".join(shown(other.type) for other in side) for side in (inner, outer)))
            yield self.change(where, f"type {self.verb}: was {old}, is {new}")
            return
        reasons = []
        for other in of_type:
            compared = set(self.compared)
            found = list(self.alternative_changes(where, one, other))
            if not found:
                return
            self.compared = compared
            reasons.append((other.label != one.label, len(found), found))
        yield from min(reasons, key=lambda reason: reason[:2])[2]

    def alternative_changes(self, where: str, inner: Alternative, outer: Alternative) -> Iterator[Change]:
        if inner.component and outer.component:
            pair = (inner.component, inner.label, outer.component, outer.label)
            if pair in self.compared:
                return
            self.compared.add(pair)
            if inner.component == outer.component:
                where = inner.component
        old, new = self.swapped(inner.schema, outer.schema)
        yield from self.value_changes(where, inner.schema, outer.schema)
        yield from self.object_changes(where, old, new)
        yield from self.changes(f"{where}/*", old.get("items", {}), new.get("items", {}))
        yield from self.changes(f"{where}/(names)", old.get("propertyNames", {}), new.get("propertyNames", {}))
        for key in sorted((old.keys() | new.keys()) - COMPARED - PROSE):
            if old.get(key) != new.get(key) and not key.startswith("x-"):
                yield self.change(where, f"{key} is another, and this check does not know the keyword: "
                                         + was_is(old.get(key), new.get(key)))

    def value_changes(self, where: str, inner: Json, outer: Json) -> Iterator[Change]:
        """What the keywords of the outer schema reject."""
        def rejected(key: str) -> Change:
            return self.change(where, f"{key} {self.verb}: " + was_is(*self.swapped(inner.get(key), outer.get(key))))

        values, allowed = values_of(inner), values_of(outer)
        if allowed is not None and (values is None or any(value not in allowed for value in values)):
            yield rejected("enum" if "enum" in inner or "enum" in outer else "const")
        for key in ("pattern", "multipleOf"):
            if key in outer and inner.get(key) != outer[key]:
                yield rejected(key)
        formats = (inner.get("format"), outer.get("format"))
        if "format" in outer and formats[0] != formats[1] and formats not in WIDER_FORMATS:
            yield rejected("format")
        if outer.get("uniqueItems") and not inner.get("uniqueItems"):
            yield rejected("uniqueItems")
        for key, none in LOWER_BOUNDS.items():
            bound = outer.get(key, none)
            if bound not in (None, none) and (inner.get(key) is None or inner[key] < bound):
                yield rejected(key)
        for key in UPPER_BOUNDS:
            if key in outer and (key not in inner or inner[key] > outer[key]):
                yield rejected(key)

    def object_changes(self, where: str, old: Json, new: Json) -> Iterator[Change]:
        old_properties, new_properties = old.get("properties", {}), new.get("properties", {})
        for name, schema in old_properties.items():
            if name not in new_properties:
                yield self.change(f"{where}/{name}", "the property is removed")
            else:
                yield from self.changes(f"{where}/{name}", schema, new_properties[name])
        given, required = (set(schema.get("required", [])) for schema in self.swapped(old, new))
        for name in sorted(required - given):
            if self.is_request or name in new_properties:
                yield self.change(f"{where}/{name}", "the property is required now" if self.is_request
                                  else "the property is no longer required")
        others = [schema.get("additionalProperties", {}) for schema in (old, new)]
        others = [{} if other is True else other for other in others]
        inner, outer = self.swapped(*others)
        if outer is False and inner is not False:
            yield self.change(where, f"additionalProperties {self.verb}: " + was_is(*others))
        elif inner is not False:
            yield from self.changes(f"{where}/(others)", *others)
        # A new property narrows what a request could have under its name before.
        if self.is_request and others[0] is not False:
            for name in sorted(new_properties.keys() - old_properties.keys()):
                yield from self.changes(f"{where}/{name}", others[0], new_properties[name])
        if not self.is_request and others[0] is False:
            for name in sorted(new_properties.keys() - old_properties.keys()):
                yield self.change(f"{where}/{name}", "the property is new, and the schema had no others")

    @property
    def is_request(self) -> bool:
        return self.direction is Direction.REQUEST

    @property
    def verb(self) -> str:
        return "is narrower" if self.is_request else "is wider"

    def swapped(self, one: Json, other: Json) -> tuple[Json, Json]:
        """The inner and the outer one of the old and the new one, and the reverse."""
        return (one, other) if self.is_request else (other, one)

    def change(self, where: str, what: str) -> Change:
        return Change(f"{where} {self.direction.value}", what)


def alternatives(document: Document, schema: Json, component: str | None = None) -> Iterator[Alternative]:
    """The alternatives of a schema, each with the last component on the way to it."""
    kind = next((key for key in ("$ref", "oneOf", "anyOf") if key in schema), None)
    if kind and (beside := schema.keys() - PROSE - {kind}):
        raise ValueError(f"this check does not know {', '.join(sorted(beside))} beside {kind}: {schema}")
    if kind == "$ref":
        yield from alternatives(document, document.at(schema[kind]), schema[kind].rsplit("/", 1)[-1])
    elif kind:
        for one in schema[kind]:
            yield from alternatives(document, one, component)
    else:
        types = schema.get("type")
        for one in types if isinstance(types, list) else [types]:
            yield Alternative(component, schema if one is None else {**schema, "type": one})


def values_of(schema: Json) -> list[Json] | None:
    """The only values of a schema, if it lists them."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def accepts_type(inner: str | None, outer: str | None) -> bool:
    return outer is None or inner == outer or (inner, outer) == ("integer", "number")


def was_is(old: Json, new: Json) -> str:
    return f"was {shown(old)}, is {shown(new)}"


def shown(value: Json) -> str:
    return "any" if value is None else str(value)
