"""The ledger in one SQLite file: the embedded default, in place of InfluxDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import msgspec

from metering.ledger import AnyRecord, Key
from metering.messages import LedgerMessage
from storage.ledger_store import KEY_LENGTHS, latest
from storage.sqlite import open_database

# A void stays as a row without a record, so that a late message with a smaller offset cannot bring the record back.
_SCHEMA = """
CREATE TABLE record (
    kind TEXT NOT NULL,
    meter_point TEXT NOT NULL,
    gas_day TEXT NOT NULL,
    key_4 TEXT NOT NULL,
    key_5 TEXT NOT NULL,
    key_6 TEXT NOT NULL,
    facts_offset INTEGER NOT NULL,
    packed BLOB,
    PRIMARY KEY (kind, meter_point, gas_day, key_4, key_5, key_6)
) WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET facts_offset = excluded.facts_offset, packed = excluded.packed
WHERE excluded.facts_offset >= facts_offset
"""
_SELECT = """
SELECT packed FROM record
WHERE kind = ?1 AND (?2 IS NULL OR meter_point = ?2) AND gas_day BETWEEN ?3 AND ?4 AND packed IS NOT NULL
ORDER BY kind, meter_point, gas_day, key_4, key_5, key_6
"""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyRecord).decode


class SqliteLedgerStore:
    """The ledger in an SQLite file. Opening it raises StoreError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _SCHEMA, version=1, synchronous="FULL")

    def write(self, messages: Sequence[LedgerMessage]) -> None:
        rows = [_row(key, message) for key, message in latest(messages).items()]
        with self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_UPSERT, rows)

    def records(
        self, meter_point: str | None = None, first_day: date | None = None, last_day: date | None = None
    ) -> Iterator[AnyRecord]:
        first, last = (first_day or date.min).isoformat(), (last_day or date.max).isoformat()
        for kind in sorted(KEY_LENGTHS):
            for (packed,) in self._db.execute(_SELECT, (kind, meter_point, first, last)):
                yield _decode(packed)

    def close(self) -> None:
        self._db.close()


def _row(key: Key, message: LedgerMessage) -> tuple[str | int | bytes | None, ...]:
    packed = None if message.record is None else _encode(message.record)
    return (*key, *("",) * (6 - len(key)), message.offset, packed)
