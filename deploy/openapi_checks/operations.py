"""Compares the operations of two documents."""

from collections.abc import Iterator

from .document import Document, Json
from .schemas import Change, Comparison, Direction

# How a parameter is written in the URL or the header.
FORMS = ("style", "explode", "allowReserved", "content")


def incompatible_changes(old: Document, new: Document) -> list[Change]:
    """What a client that was written for the old document can no longer rely on."""
    requests, responses = (Comparison(old, new, direction) for direction in Direction)
    found = list(names_changes(old, new))
    old_operations, new_operations = dict(old.operations()), dict(new.operations())
    for name, operation in old_operations.items():
        if name not in new_operations:
            found.append(Change(name, "the operation is removed"))
            continue
        other = new_operations[name]
        if operation.get("operationId") != other.get("operationId"):
            found.append(Change(name, f"operationId: was {operation.get('operationId')}, is {other.get('operationId')}"))
        found += security_changes(name, old.security(operation), new.security(other))
        found += parameter_changes(name, requests, old.parameters(operation), new.parameters(other))
        found += body_changes(name, requests, operation.get("requestBody"), other.get("requestBody"))
        found += response_changes(name, responses, operation["responses"], other["responses"])
    # Schemas without a reference to them: descriptions name them, as those of objects in responses.
    compared = {component for pair in requests.compared | responses.compared for component in pair}
    for name in (old.components("schemas").keys() & new.components("schemas").keys()) - compared:
        reference = {"$ref": f"#/components/schemas/{name}"}
        found += responses.changes(name, reference, reference)
    return list(dict.fromkeys(found))


def names_changes(old: Document, new: Document) -> Iterator[Change]:
    """Names that clients use, beside those of operations."""
    for name in old.components("schemas").keys() - new.components("schemas").keys():
        yield Change(name, "the schema is removed: it is a type of generated clients")
    schemes = new.components("securitySchemes")
    for name, scheme in old.components("securitySchemes").items():
        if name not in schemes:
            yield Change(name, "the security scheme is removed")
            continue
        for key in ("type", "scheme", "in", "name"):
            if scheme.get(key) != schemes[name].get(key):
                yield Change(name, f"{key} of the security scheme: was {scheme.get(key)}, is {schemes[name].get(key)}")
    statuses = {problem["slug"]: problem["status"] for problem in new.content.get("x-problem-types", [])}
    for problem in old.content.get("x-problem-types", []):
        slug, status = problem["slug"], problem["status"]
        if slug not in statuses:
            yield Change(slug, "the problem type is removed")
        elif statuses[slug] != status:
            yield Change(slug, f"status of the problem type: was {status}, is {statuses[slug]}")


def security_changes(name: str, old: list[Json], new: list[Json]) -> Iterator[Change]:
    """Credentials that sufficed must suffice. An operation that needs less than before is reported
    too: it may be an open door."""
    if {} in new and {} not in old:
        yield Change(name, "needs no credentials now")
        return
    for before in old:
        same = [after for after in new if after.keys() <= before.keys()]
        if not same:
            yield Change(name, f"the security scheme {' and '.join(before) or '(none)'} no longer suffices")
            continue
        if any(scopes(after) == scopes(before) for after in same):
            continue
        more, fewer = (sorted(scopes(one) - scopes(other)) for one, other in ((same[0], before), (before, same[0])))
        changed = [f"needs the scope {scope} now" for scope in more]
        changed += [f"no longer needs the scope {scope}" for scope in fewer]
        yield Change(name, f"{' and '.join(before)} {' and '.join(changed)}")


def scopes(requirement: Json) -> set[str]:
    return {scope for all_of_scheme in requirement.values() for scope in all_of_scheme}


def parameter_changes(name: str, requests: Comparison, old: Json, new: Json) -> Iterator[Change]:
    for (place, parameter), before in old.items():
        where = f"{name}, {place} parameter {before['name']}"
        after = new.get((place, parameter))
        if after is None:
            yield Change(where, "the parameter is removed")
            continue
        if after.get("required") and not before.get("required"):
            yield Change(where, "the parameter is required now")
        for key in FORMS:
            if before.get(key) != after.get(key):
                yield Change(where, f"{key}: was {before.get(key)}, is {after.get(key)}")
        yield from requests.changes(where, before.get("schema", {}), after.get("schema", {}))
    for (place, parameter), after in new.items():
        if (place, parameter) not in old and after.get("required"):
            yield Change(f"{name}, {place} parameter {after['name']}", "the parameter is new, and required")


def body_changes(name: str, requests: Comparison, old: Json | None, new: Json | None) -> Iterator[Change]:
    old, new = (requests.old.resolve(old) if old else None), (requests.new.resolve(new) if new else None)
    if new is None:
        if old is not None:
            yield Change(name, "the body of the request is removed")
        return
    if new.get("required") and not (old or {}).get("required"):
        yield Change(name, "the body of the request is required now")
    if old:
        yield from content_changes(f"{name}, body", requests, old["content"], new["content"])


def response_changes(name: str, responses: Comparison, old: Json, new: Json) -> Iterator[Change]:
    for status, before in old.items():
        where = f"{name}, response {status}"
        if status not in new:
            yield Change(where, "the response is removed")
            continue
        before, after = responses.old.resolve(before), responses.new.resolve(new[status])
        yield from content_changes(where, responses, before.get("content", {}), after.get("content", {}))
        headers = {header.lower(): schema for header, schema in after.get("headers", {}).items()}
        for header, schema in before.get("headers", {}).items():
            if header.lower() not in headers:
                yield Change(where, f"the header {header} is removed")
                continue
            schemas = responses.old.resolve(schema), responses.new.resolve(headers[header.lower()])
            if schemas[0].get("required") and not schemas[1].get("required"):
                yield Change(where, f"the header {header} is no longer required")
            yield from responses.changes(f"{where}, header {header}", *(one.get("schema", {}) for one in schemas))
    # A client has to treat a 4xx or 5xx that it does not know like 400 or 500.
    for status in sorted(new.keys() - old.keys()):
        if status < "400":
            yield Change(f"{name}, response {status}", "the response is new, and no error")


def content_changes(where: str, comparison: Comparison, old: Json, new: Json) -> Iterator[Change]:
    for media_type, before in old.items():
        if media_type not in new:
            yield Change(where, f"the media type {media_type} is removed")
        else:
            place = where if media_type == "application/json" else f"{where} as {media_type}"
            yield from comparison.changes(place, before.get("schema", {}), new[media_type].get("schema", {}))
