"""Statements, requested and downloaded through the report-service's API."""

import contextlib
import datetime
import hashlib
import http.client
import json
from typing import Any

from .load import request
from .pod import Pod
from .report import require

FORMATS = ("pdf", "csv", "xlsx", "json", "camt053")
# Seconds that a request may wait for its report.
WAIT = 30


class Statement:
    """A statement of one account, from the first day of the test until its request."""

    def __init__(self, pod: Pod, token: str, account: str, first_day: datetime.date) -> None:
        self.pod, self.token = pod, token
        now = datetime.datetime.now(datetime.UTC)
        body = {"kind": "statement", "accountId": account, "from": first_day.isoformat(),
                "to": now.isoformat().replace("+00:00", "Z"), "timeZone": "UTC", "formats": list(FORMATS)}
        with contextlib.closing(self.connect()) as connection:
            report = request(connection, token, "/v1/reports", body, f"statement-{now.timestamp()}",
                             {"Prefer": f"wait={WAIT}"})
        self.id = report["reportId"]
        require(report["state"] == "SUCCEEDED", f"the report ended as {report}")
        self.artifacts: list[dict[str, Any]] = report["artifacts"]
        formats = sorted(artifact["format"] for artifact in self.artifacts)
        require(formats == sorted(FORMATS), f"the report has the formats {formats}")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.pod.api_port, timeout=WAIT + 10)

    def download(self) -> dict[str, bytes]:
        """Downloads every file. Each must have its size and its SHA-256."""
        files = {}
        for artifact in self.artifacts:
            with contextlib.closing(self.connect()) as connection:
                connection.request("GET", artifact["href"], headers={"Authorization": f"Bearer {self.token}"})
                response = connection.getresponse()
                content = response.read()
            digest = hashlib.sha256(content).hexdigest()
            require((response.status, len(content), digest) == (200, artifact["size"], artifact["sha256"]),
                    f"{artifact['href']}: {response.status}, {len(content)} bytes with SHA-256 {digest}, "
                    f"expected {artifact}")
            files[artifact["format"]] = content
        return files


def closing_balance(files: dict[str, bytes]) -> str:
    return json.loads(files["json"])["closing"]["balance"]
