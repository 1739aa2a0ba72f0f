#!/usr/bin/env python3
"""Follows the event log: events.py INBOX

Prints each new event, and goes on after a crash where it was. INBOX is an SQLite file with the
events and the cursor. PASSBOOK_URL is the address of the API, PASSBOOK_TOKEN a token with the scope
`events:read`."""

import sqlite3
import sys
import time
import urllib.parse

import passbook
from inbox import Inbox

# Seconds between two looks at the log, when there is nothing new.
PAUSE = 1


def catch_up(client, inbox, **filters):
    """Stores the events that are new since the last time, page by page. Yields each of them."""
    more = True
    while more:
        after = inbox.cursor()
        query = urllib.parse.urlencode(filters if after is None else {**filters, "after": after})
        page = client.get(f"/v1/events?{query}")
        # The cursor of the page goes in with its events. Nothing is skipped, and nothing is lost.
        yield from inbox.keep(page["items"], page["nextCursor"])
        more = page["hasMore"]


def main(path):
    client, inbox = passbook.Client.from_environment(), Inbox(path)
    while True:
        for event in catch_up(client, inbox):
            print(event["type"], event["accountId"], event["sequence"], flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        pass
    except (ValueError, OSError, sqlite3.Error, passbook.Problem, passbook.Unreachable) as error:
        sys.exit(f"error: {error}")
