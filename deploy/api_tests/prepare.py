"""Makes accounts, a record and a report, and prints the settings of schemathesis with their ids
and times.

A made-up id gives 404 only. With ids of real things, requests come past that."""

import pathlib
import string
import uuid

import passbook

SETTINGS = pathlib.Path(__file__).with_name("schemathesis.toml")


def main():
    client = passbook.Client.from_environment()

    def post(path, body, wait=None):
        return client.post(path, body, str(uuid.uuid4()), wait)

    won = post("/v1/accounts", {"currency": "KRW", "reference": "schemathesis"})
    dollars = post("/v1/accounts", {"currency": "USD", "metadata": {"test": "schemathesis"}})
    record = post(f"/v1/accounts/{won['accountId']}/deposits", {"amount": "1000000"}, 20)
    post(f"/v1/accounts/{dollars['accountId']}/deposits", {"amount": "1000000"}, 20)
    statement = {
        "kind": "statement",
        "accountId": won["accountId"],
        "from": won["createdAt"],
        "to": record["updatedAt"],
        "formats": ["pdf", "csv", "xlsx", "json", "camt053"],
    }
    report = post("/v1/reports", statement, 30)
    if (record["status"], report["state"]) != ("SUCCESS", "SUCCEEDED"):
        raise SystemExit(f"the system is not ready: {record}, {report}")
    values = {
        "account": won["accountId"],
        "other_account": dollars["accountId"],
        "record": record["recordId"],
        "report": report["reportId"],
        "opened": won["createdAt"],
        "settled": record["updatedAt"],
        "token": client.token,
    }
    print(string.Template(SETTINGS.read_text(encoding="utf-8")).substitute(values))


main()
