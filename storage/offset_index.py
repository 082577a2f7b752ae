"""What the InfluxDB writer remembers on its own disk: of each key the greatest offset written, and how far it has read.

InfluxDB cannot be asked cheaply whether what it holds is newer than what comes. The index is fed after InfluxDB's
acknowledgement, so it never says more than InfluxDB holds. Both kinds of entries are in one file: where it is lost, the
writer reads the `ledger` topic from the start and makes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from metering.ledger import Key
from metering.messages import encode_key
from storage.sqlite import open_database

_SCHEMA = """
CREATE TABLE standing (record_key BLOB PRIMARY KEY, facts_offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE position (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
"""
_UPSERT = """
INSERT INTO standing VALUES (?, ?)
ON CONFLICT DO UPDATE SET facts_offset = max(facts_offset, excluded.facts_offset)
"""


class OffsetIndex:
    """The index in one SQLite file, for one process at a time; StoreError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, version=1, synchronous="NORMAL", exclusive=True)

    def standing(self, keys: Iterable[Key]) -> dict[Key, int]:
        """The greatest offset written of each of these keys; keys never written are left out."""
        found: dict[Key, int] = {}
        for key in keys:
            row = self._db.execute("SELECT facts_offset FROM standing WHERE record_key = ?", (encode_key(key),)).fetchone()
            if row is not None:
                found[key] = row[0]
        return found

    def note(self, offsets: Mapping[Key, int]) -> None:
        """Remembers that these have been written."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_UPSERT, [(encode_key(key), offset) for key, offset in offsets.items()])

    def positions(self) -> dict[int, int]:
        """Of each partition of the `ledger` topic the offset of the next message to read; unread partitions left out."""
        return dict(self._db.execute("SELECT partition, next_offset FROM position"))

    def set_positions(self, positions: Mapping[int, int]) -> None:
        """Remembers how far the `ledger` topic has been written."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?)", list(positions.items()))

    def close(self) -> None:
        """Closes the file; to be called once."""
        self._db.close()


def forget(path: Path) -> bool:
    """Removes the index's file; False where there is none. StoreError where a writer is using it."""
    if not path.exists():
        return False
    OffsetIndex(path).close()  # raises while another process has it
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return True
