#!/usr/bin/env python3
"""Deposits the payments of a CSV file, each exactly once: pay_in.py PAYMENTS JOURNAL

PAYMENTS has the columns `reference`, `account`, `amount` and `currency`. A reference names one
payment. JOURNAL is an SQLite file with the idempotency key and the outcome of every payment. After
a crash or an error, run the same command again: it continues, and no payment is made twice.

PASSBOOK_URL is the address of the API, PASSBOOK_TOKEN a token with the scopes `deposits:write` and
`accounts:read`. The exit status is 0 if every payment of the file was deposited."""

import contextlib
import csv
import decimal
import sqlite3
import sys
import urllib.parse
import uuid

import passbook

FIELDS = ("reference", "account", "amount", "currency")
# Seconds that one request waits for the ledger.
WAIT = 20


class Journal:
    """The payments, each with its key, which is on disk before its first request."""

    def __init__(self, path):
        self.database = sqlite3.connect(path)
        self.database.row_factory = sqlite3.Row
        self.database.execute("PRAGMA synchronous = FULL")
        with self.database:
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS payments (reference TEXT PRIMARY KEY, account TEXT NOT NULL,"
                " amount TEXT NOT NULL, currency TEXT NOT NULL, key TEXT NOT NULL UNIQUE,"
                " record TEXT, status TEXT, reason TEXT, balance TEXT)"
            )

    def add(self, payments):
        """Adds the new payments. A payment whose content has changed is an error."""
        with self.database:
            for payment in payments:
                self.database.execute(
                    "INSERT INTO payments (reference, account, amount, currency, key)"
                    " VALUES (:reference, :account, :amount, :currency, :key) ON CONFLICT DO NOTHING",
                    {**payment, "key": str(uuid.uuid4())},
                )
                known = self.payment(payment["reference"])
                changed = [name for name, value in payment.items() if known[name] != value]
                if changed:
                    raise ValueError(f"{payment['reference']} is in the journal with another {changed[0]}")

    def payment(self, reference):
        query = "SELECT * FROM payments WHERE reference = ?"
        return self.database.execute(query, [reference]).fetchone()

    def settle(self, reference, record):
        with self.database:
            self.database.execute(
                "UPDATE payments SET record = ?, status = ?, reason = ?, balance = ? WHERE reference = ?",
                [record["recordId"], record["status"], record["reason"], record["balanceAfter"], reference],
            )


def read(path):
    """The payments of the file by reference, checked before anything is sent."""
    payments = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, restval=""):
            missing = [name for name in FIELDS if not row.get(name)]
            if missing:
                raise ValueError(f"{path}: {row} has no {missing[0]}")
            payment = {name: row[name] for name in FIELDS}
            if payment["reference"] in payments:
                raise ValueError(f"{path}: {payment['reference']} occurs twice")
            payment["amount"] = exact(payment["amount"])
            payments[payment["reference"]] = payment
    return payments


def exact(text):
    """The amount as the API takes it: a decimal, never a float, and without an exponent."""
    try:
        amount = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError(f"{text!r} is not an amount") from None
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"{text!r} is not an amount to deposit")
    return f"{amount:f}"


def deposit(client, payment):
    """The settled record of the payment."""
    account = urllib.parse.quote(payment["account"], safe="")
    body = {name: payment[name] for name in ("amount", "currency", "reference")}
    record = client.post(f"/v1/accounts/{account}/deposits", body, payment["key"], WAIT)
    for _ in range(10):
        if record["status"] != "PENDING":
            return record
        # 202: the deposit is durable, and not yet booked. Its record tells the outcome.
        record = client.get(f"/v1/records/{record['recordId']}", WAIT)
    raise passbook.Unreachable(f"{payment['reference']} is durable, but not booked yet: run again later")


def run(client, payments, journal):
    """Makes the payments. Returns the sum of each currency, and the number of failures."""
    journal.add(payments.values())
    sums, failures = {}, 0
    for reference in payments:
        payment = journal.payment(reference)
        if payment["status"] is None:
            try:
                journal.settle(reference, deposit(client, payment))
            # Nothing was stored. After a correction of the cause, the same key can be used.
            except passbook.Problem as problem:
                print(f"{reference}: {problem}", *problem.errors, file=sys.stderr)
                failures += 1
                continue
        payment = journal.payment(reference)
        print(reference, payment["status"], payment["reason"] or "", payment["record"])
        # The ledger's final refusal. Another try is another payment, with another reference.
        if payment["status"] != "SUCCESS":
            failures += 1
            continue
        currency = payment["currency"]
        sums[currency] = sums.get(currency, decimal.Decimal(0)) + decimal.Decimal(payment["amount"])
    return sums, failures


def main(payments, journal):
    payments = read(payments)
    client, journal = passbook.Client.from_environment(), Journal(journal)
    with contextlib.closing(journal.database):
        sums, failures = run(client, payments, journal)
    for currency, amount in sorted(sums.items()):
        print(f"deposited {amount:f} {currency}")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (ValueError, OSError, sqlite3.Error, passbook.Unreachable) as error:
        sys.exit(f"error: {error}")
