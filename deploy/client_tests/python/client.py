"""Uses the API through the client that openapi-python-client makes from the document."""

import importlib
import os
import pkgutil
import time
import uuid

import passbook_client
from passbook_client import AuthenticatedClient
from passbook_client.api.accounts import get_account, open_account
from passbook_client.api.events import list_events
from passbook_client.api.movements import create_batch, deposit, list_records, withdraw
from passbook_client.models import (
    Account, Batch, BatchItem, BatchResult, EventPage, Metadata, Movement, OpenAccount, Problem, Record, RecordPage,
)

WAIT = "wait=10"
client = AuthenticatedClient(base_url=os.environ["PASSBOOK_URL"], token=os.environ["PASSBOOK_TOKEN"])

# Every module of the client is valid Python.
for module in pkgutil.walk_packages(passbook_client.__path__, "passbook_client."):
    importlib.import_module(module.name)


def success(parsed, type_):
    assert isinstance(parsed, type_), parsed
    return parsed


def problem(parsed, status, slug):
    success(parsed, Problem)
    assert (parsed.status, parsed.type_.rsplit("/", 1)[-1]) == (status, slug), parsed
    return parsed


def new_key():
    return str(uuid.uuid4())


metadata = Metadata.from_dict({"language": "python"})
account = success(open_account.sync(
    client=client, idempotency_key=new_key(),
    body=OpenAccount(currency="KRW", reference="client test", metadata=metadata)), Account)
assert (account.balance, account.reference, account.metadata) == ("0", "client test", metadata), account

# A deposit, its repetition, and its key with another amount.
key = new_key()


def deposit_with_key(amount):
    return deposit.sync_detailed(
        account.account_id, client=client, idempotency_key=key, prefer=WAIT,
        body=Movement(amount=amount, currency="KRW", reference="invoice 1"))


record = success(deposit_with_key("10000").parsed, Record)
assert (record.status, record.balance_after, record.reason) == ("SUCCESS", "10000", None), record
repeated = deposit_with_key("10000")
assert repeated.parsed == record, repeated.parsed
assert repeated.headers["idempotent-replayed"] == "true", repeated.headers
problem(deposit_with_key("20000").parsed, 422, "idempotency-key-reused")

# A refusal is a record, not an error.
refused = success(withdraw.sync(
    account.account_id, client=client, idempotency_key=new_key(), prefer=WAIT, body=Movement(amount="10001")), Record)
assert (refused.status, refused.reason) == ("FAILED", "INSUFFICIENT_FUNDS"), refused

invalid = deposit.sync(account.account_id, client=client, idempotency_key=new_key(), body=Movement(amount="0"))
assert problem(invalid, 422, "invalid-field").errors[0].pointer == "#/amount", invalid
problem(get_account.sync(uuid.uuid4(), client=client), 404, "account-not-found")

# Pages.
first = success(list_records.sync(account.account_id, client=client, limit=1), RecordPage)
assert first.items == [refused], first
second = success(list_records.sync(account.account_id, client=client, limit=1, cursor=first.next_cursor), RecordPage)
assert second.items == [record], second

items = [BatchItem(account_id=account.account_id, type_="DEPOSIT", amount=amount, idempotency_key=new_key())
         for amount in ("5", "0")]
batch = success(create_batch.sync(client=client, prefer=WAIT, body=Batch(items=items)), BatchResult)
assert [item.status for item in batch.items] == [200, 422], batch
assert batch.items[0].record.balance_after == "10005", batch
assert batch.items[1].problem.errors[0].pointer == "#/items/1/amount", batch

# The events of the account, as soon as they are in the log.
expected = ["account.created", "record.succeeded", "record.failed", "record.succeeded"]
until = time.monotonic() + 20
while True:
    events = success(list_events.sync(client=client, account_id=account.account_id), EventPage).items
    if len(events) == len(expected) or time.monotonic() > until:
        break
    time.sleep(0.1)
assert [event.type_ for event in events] == expected, events
assert Record.from_dict(events[1].data.to_dict()) == record, events
print("Python: the generated client works")
