"""What has happened, each event once: an SQLite file with the events and the cursor of the log."""

import json
import sqlite3
import threading


class Inbox:
    """Events arrive in two ways, by webhook and from the log. Their ids are the same in both."""

    def __init__(self, path):
        # The receiver of webhooks has a thread for each request.
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.lock = threading.Lock()
        self.database.execute("PRAGMA synchronous = FULL")
        with self.database:
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT NOT NULL,"
                " account TEXT NOT NULL, sequence INTEGER NOT NULL, content TEXT NOT NULL)"
            )
            self.database.execute("CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY, value TEXT)")

    def cursor(self):
        """Where to read on in the log; `None` before the first event."""
        row = self.database.execute("SELECT value FROM cursor").fetchone()
        return row[0] if row else None

    def keep(self, events, cursor=None):
        """Stores the events and the cursor in one transaction: after a crash, both or neither are
        there. Effects in the same database belong here, too. Returns the events that are new."""
        with self.lock, self.database:
            new = [event for event in events if self._insert(event)]
            if cursor is not None:
                self.database.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", [cursor])
        return new

    def _insert(self, event):
        values = [event["id"], event["type"], event["accountId"], event["sequence"], json.dumps(event)]
        query = "INSERT INTO events VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self.database.execute(query, values).rowcount == 1
