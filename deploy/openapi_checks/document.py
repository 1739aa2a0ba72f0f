"""An OpenAPI document, as the comparison reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class Document:
    """A document whose references are all within it."""

    def __init__(self, content: Json) -> None:
        self.content = content

    @classmethod
    def read(cls, path: Path) -> "Document":
        return cls(json.loads(path.read_text()))

    def resolve(self, value: Json) -> Json:
        """The value behind its references."""
        while "$ref" in value:
            value = self.at(value["$ref"])
        return value

    def at(self, reference: str) -> Json:
        value = self.content
        for step in reference.removeprefix("#/").split("/"):
            value = value[step.replace("~1", "/").replace("~0", "~")]
        return value

    def operations(self) -> Iterator[tuple[str, Json]]:
        """Each operation with its name: `POST /v1/accounts`."""
        for path, item in self.content["paths"].items():
            for method in METHODS:
                if method in item:
                    yield f"{method.upper()} {path}", item[method]

    def components(self, kind: str) -> Json:
        return self.content.get("components", {}).get(kind, {})

    def security(self, operation: Json) -> list[dict[str, list[str]]]:
        """The alternatives of what a request needs: one empty one if it needs nothing."""
        return operation.get("security", self.content.get("security", [])) or [{}]

    def parameters(self, operation: Json) -> dict[tuple[str, str], Json]:
        """The parameters by place and name. Names of headers have no case."""
        found = [self.resolve(parameter) for parameter in operation.get("parameters", [])]
        return {(one["in"], one["name"].lower() if one["in"] == "header" else one["name"]): one for one in found}
