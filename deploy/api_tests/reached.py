"""Fails with the names of the operations that schemathesis sent no request to, for example because
its time was over: reached.py REPORT

The report is schemathesis's own, in its format `json`."""

import json
import pathlib
import sys

METHODS = {"get", "put", "post", "delete", "patch"}


def main():
    report = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    document = json.loads(pathlib.Path("docs/openapi.json").read_text(encoding="utf-8"))
    tested, selected = report["operations"]["tested"], report["operations"]["selected"]
    if tested >= selected:
        print(f"{tested} operations were tested")
        return
    names = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in METHODS & item.keys()}
    missing = ", ".join(sorted(names - report["valid_rates"].keys()))
    raise SystemExit(f"only {tested} of {selected} operations were tested. Without a valid request: {missing}")


main()
