"""Shows that the check works: it reports each incompatible mutation, and no compatible one."""

import copy

from .breaks import BREAKS, COMPATIBLE, Mutation
from .document import Document
from .operations import incompatible_changes


def run(document: Document) -> int:
    """Applies every mutation to the document. Returns the number of failures."""
    failures = [f"the unchanged document: {change}" for change in incompatible_changes(document, document)]
    for mutation in BREAKS + COMPATIBLE:
        failures += failures_of(document, mutation)
    for failure in failures:
        print(f"self-test: {failure}")
    if not failures:
        print(f"self-test: {len(BREAKS)} incompatible changes reported, {len(COMPATIBLE)} compatible ones allowed")
    return len(failures)


def failures_of(document: Document, mutation: Mutation) -> list[str]:
    mutated = copy.deepcopy(document.content)
    mutation.mutate(mutated)
    found = [str(change) for change in incompatible_changes(document, Document(mutated))]
    if mutation.report is None:
        return [f"{mutation.description}: compatible, but reported: {report}" for report in found]
    if not any(mutation.report in report for report in found):
        return [f"{mutation.description}: expected “{mutation.report}”, found: {'; '.join(found) or 'nothing'}"]
    return []
