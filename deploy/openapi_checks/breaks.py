"""Single mutations of the document: incompatible ones, each with the change that the check has to
report, and compatible ones.

A place in the document is a path of keys and list indexes, separated by " > ".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .document import Json

DEPOSIT = "paths > /v1/accounts/{account}/deposits > post"
EVENTS = "paths > /v1/events > get"
RECORDS = "paths > /v1/accounts/{account}/records > get"
SCHEMAS = "components > schemas"
DEPOSIT_NAME = "POST /v1/accounts/{account}/deposits"
RECORDS_NAME = "GET /v1/accounts/{account}/records"


@dataclass(frozen=True)
class Mutation:
    """A mutation, and the report of the check if it is incompatible."""

    description: str
    mutate: Callable[[Json], None]
    report: str | None = None


def change(place: str, value: Any, report: str | None = None) -> Mutation:
    """Sets or adds a value."""
    def mutate(document: Json) -> None:
        parent, key = locate(document, place)
        parent[key] = value
    return Mutation(f"set {place} to {value!r}", mutate, report)


def remove(place: str, report: str | None = None) -> Mutation:
    def mutate(document: Json) -> None:
        parent, key = locate(document, place)
        del parent[key]
    return Mutation(f"remove {place}", mutate, report)


def append(place: str, value: Any, report: str | None = None) -> Mutation:
    def mutate(document: Json) -> None:
        parent, key = locate(document, place)
        parent[key].append(value)
    return Mutation(f"append {value!r} to {place}", mutate, report)


def take(place: str, value: Any, report: str | None = None) -> Mutation:
    """Removes an element from a list."""
    def mutate(document: Json) -> None:
        parent, key = locate(document, place)
        parent[key].remove(value)
    return Mutation(f"remove {value!r} from {place}", mutate, report)


def locate(document: Json, place: str) -> tuple[Json, Any]:
    *parents, last = [int(step) if step.isdigit() and len(step) < 3 else step for step in place.split(" > ")]
    for step in parents:
        document = document[step]
    return document, last


def parameter(name: str, **more: Any) -> Json:
    return {"in": "query", "name": name, "schema": {"type": "string"}, **more}


def rename_movement(document: Json) -> None:
    schemas, _ = locate(document, f"{SCHEMAS} > Movement")
    schemas["Payment"] = schemas.pop("Movement")
    for path in ("deposits", "withdrawals"):
        place = f"paths > /v1/accounts/{{account}}/{path} > post > requestBody > content > application/json > schema"
        change(place, {"$ref": "#/components/schemas/Payment"}).mutate(document)


def type_of_events(document: Json) -> None:
    """Makes the filter's enum its own, so that only requests have it."""
    operation, _ = locate(document, f"{EVENTS} > parameters")
    [filter_] = [one for one in operation["parameters"] if one["name"] == "type"]
    filter_["schema"] = {"type": "string", "enum": ["account.created"]}


BREAKS = (
    remove("paths > /v1/accounts/{account}/deposits", f"{DEPOSIT_NAME}: the operation is removed"),
    remove(DEPOSIT, f"{DEPOSIT_NAME}: the operation is removed"),
    change(f"{DEPOSIT} > operationId", "pay", f"{DEPOSIT_NAME}: operationId: was deposit, is pay"),
    Mutation("rename a schema", rename_movement, "Movement: the schema is removed"),
    remove("x-problem-types > 0", "the problem type is removed"),
    change("x-problem-types > 0 > status", 418, "status of the problem type"),

    remove("components > securitySchemes > apiKey", "apiKey: the security scheme is removed"),
    change("components > securitySchemes > apiKey > scheme", "basic", "apiKey: scheme of the security scheme: was bearer, is basic"),
    remove(f"{DEPOSIT} > security > 1", f"{DEPOSIT_NAME}: the security scheme apiKey no longer suffices"),
    append(f"{DEPOSIT} > security > 0 > token", "admin", f"{DEPOSIT_NAME}: token needs the scope admin now"),
    take(f"{DEPOSIT} > security > 0 > token", "deposits:write", f"{DEPOSIT_NAME}: token no longer needs the scope deposits:write"),
    append(f"{DEPOSIT} > security", {}, f"{DEPOSIT_NAME}: needs no credentials now"),
    change(f"{DEPOSIT} > security", [{"token": []}], f"{DEPOSIT_NAME}: token no longer needs the scope deposits:write"),

    remove(f"{RECORDS} > parameters > 1", f"{RECORDS_NAME}, query parameter status: the parameter is removed"),
    change(f"{RECORDS} > parameters > 1 > required", True, f"{RECORDS_NAME}, query parameter status: the parameter is required now"),
    append(f"{RECORDS} > parameters", parameter("since", required=True), f"{RECORDS_NAME}, query parameter since: the parameter is new, and required"),
    change(f"{RECORDS} > parameters > 1 > style", "spaceDelimited", f"{RECORDS_NAME}, query parameter status: style: was None, is spaceDelimited"),
    Mutation("take values from the filter of events", type_of_events, "GET /v1/events, query parameter type in a request: enum is narrower"),

    remove(f"{DEPOSIT} > requestBody", f"{DEPOSIT_NAME}: the body of the request is removed"),
    remove(f"{DEPOSIT} > requestBody > content > application/json", f"{DEPOSIT_NAME}, body: the media type application/json is removed"),
    remove(f"{SCHEMAS} > Movement > properties > reference", "Movement/reference in a request: the property is removed"),
    append(f"{SCHEMAS} > Movement > required", "currency", "Movement/currency in a request: the property is required now"),
    change(f"{SCHEMAS} > Movement > properties > reference > type", "integer", "Movement/reference in a request: type is narrower: was string, is integer"),
    change(f"{SCHEMAS} > ReportRequest > properties > analysis > type", "boolean", "ReportRequest/analysis in a request: type is narrower"),
    change(f"{SCHEMAS} > Movement > properties > reference > maxLength", 100, "Movement/reference in a request: maxLength is narrower: was 255, is 100"),
    change(f"{SCHEMAS} > Movement > properties > reference > minLength", 2, "Movement/reference in a request: minLength is narrower: was 1, is 2"),
    change(f"{SCHEMAS} > Movement > properties > reference > pattern", "^[a-z]+$", "Movement/reference in a request: pattern is narrower: was any, is ^[a-z]+$"),
    change(f"{SCHEMAS} > Movement > properties > reference > format", "uri", "Movement/reference in a request: format is narrower"),
    change(f"{SCHEMAS} > Movement > properties > reference > enum", ["a"], "Movement/reference in a request: enum is narrower"),
    change(f"{SCHEMAS} > Movement > properties > reference > default", "a", "default is another, and this check does not know the keyword"),
    change(f"{SCHEMAS} > Amount > pattern", "^[0-9]+$", "Amount in a request: pattern is narrower"),
    change(f"{SCHEMAS} > Batch > properties > items > maxItems", 10, "Batch/items in a request: maxItems is narrower: was 1000, is 10"),
    change(f"{SCHEMAS} > Metadata > maxProperties", 5, "Metadata in a request: maxProperties is narrower: was 50, is 5"),
    change(f"{SCHEMAS} > Metadata > propertyNames > maxLength", 5, "Metadata/(names) in a request: maxLength is narrower: was 40, is 5"),
    change(f"{SCHEMAS} > Metadata > additionalProperties > maxLength", 5, "Metadata/(others) in a request: maxLength is narrower: was 500, is 5"),

    remove(f"{DEPOSIT} > responses > 202", f"{DEPOSIT_NAME}, response 202: the response is removed"),
    remove(f"{DEPOSIT} > responses > 404", f"{DEPOSIT_NAME}, response 404: the response is removed"),
    change(f"{DEPOSIT} > responses > 201", {"description": "Created."}, f"{DEPOSIT_NAME}, response 201: the response is new, and no error"),
    remove(f"{DEPOSIT} > responses > 202 > headers > Location", f"{DEPOSIT_NAME}, response 202: the header Location is removed"),
    remove(f"{DEPOSIT} > responses > 202 > headers > Location > required", f"{DEPOSIT_NAME}, response 202: the header Location is no longer required"),
    change("components > headers > Retry-After > schema > type", "string", "header Retry-After in a response: type is wider: was integer, is string"),
    remove(f"{EVENTS} > responses > 200 > content > text/event-stream", "GET /v1/events, response 200: the media type text/event-stream is removed"),
    remove(f"{SCHEMAS} > Record > properties > reason", "Record/reason in a response: the property is removed"),
    take(f"{SCHEMAS} > Record > required", "reason", "Record/reason in a response: the property is no longer required"),
    change(f"{SCHEMAS} > Record > properties > recordId > type", ["string", "null"], "Record/recordId in a response: type is wider: was string, is string or null"),
    change(f"{SCHEMAS} > Account > properties > balance", {"type": "number"}, "Account/balance in a response: type is wider: was string, is number"),
    remove(f"{SCHEMAS} > Record > properties > recordId > format", "Record/recordId in a response: format is wider: was uuid, is any"),
    remove(f"{SCHEMAS} > Money > pattern", "Money in a response: pattern is wider"),
    append(f"{SCHEMAS} > RefusalReason > enum", "ACCOUNT_CLOSED", "RefusalReason in a response: enum is wider"),
    remove(f"{SCHEMAS} > RefusalReason > enum", "RefusalReason in a response: enum is wider"),
    change(f"{SCHEMAS} > Problem > properties > status > maximum", 999, "Problem/status in a response: maximum is wider: was 599, is 999"),
    remove(f"{SCHEMAS} > Account > properties > accountSeq > minimum", "Account/accountSeq in a response: minimum is wider: was 0, is any"),
    change(f"{SCHEMAS} > RecordPage > properties > items > items", {"type": "string"}, "RecordPage/items/* in a response: type is wider: was object, is string"),
    remove(f"{SCHEMAS} > OpenedAccount > properties > ownerId", "OpenedAccount/ownerId in a response: the property is removed"),
    append(f"{SCHEMAS} > Record > properties > balanceAfter > oneOf", {"type": "integer"}, "Record/balanceAfter in a response: type is wider: was string or null, is string or null or integer"),
)

COMPATIBLE = (
    change("paths > /v1/things", {"get": {"operationId": "listThings", "responses": {"200": {"description": "Things."}}}}),
    change(f"{SCHEMAS} > Thing", {"type": "object"}),
    change("components > securitySchemes > mutual", {"type": "mutualTLS"}),
    append(f"{DEPOSIT} > security", {"mutual": []}),
    append(f"{RECORDS} > parameters", parameter("since")),
    change(f"{DEPOSIT} > description", "Another."),
    change(f"{DEPOSIT} > deprecated", True),
    change(f"{DEPOSIT} > responses > 418", {"description": "A teapot."}),
    change(f"{DEPOSIT} > responses > 202 > headers > X-More", {"schema": {"type": "string"}}),
    change(f"{SCHEMAS} > Movement > properties > purpose", {"type": "string"}),
    change(f"{SCHEMAS} > Movement > properties > reference > type", ["string", "null"]),
    change(f"{SCHEMAS} > Movement > properties > reference > maxLength", 500),
    remove(f"{SCHEMAS} > Movement > properties > reference > minLength"),
    remove(f"{SCHEMAS} > Amount > pattern"),
    take(f"{SCHEMAS} > BatchItem > required", "idempotencyKey"),
    change(f"{SCHEMAS} > Batch > properties > items > maxItems", 5000),
    change(f"{SCHEMAS} > Record > properties > purpose", {"type": "string"}),
    change(f"{SCHEMAS} > Record > properties > idempotencyKey > maxLength", 255),
    append(f"{SCHEMAS} > BatchItemResult > required", "replayed"),
    take(f"{SCHEMAS} > RefusalReason > enum", "CURRENCY_MISMATCH"),
    change(f"{SCHEMAS} > Record > properties > accountSeq > type", "integer"),
    append("x-problem-types", {"slug": "teapot", "status": 418}),
)
