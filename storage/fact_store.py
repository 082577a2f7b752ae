"""The fact store: every fact of one partition, kept so that a meter point can be determined again from the start.

The `facts` topic is the truth; this is a local copy of one partition of it, arranged by meter point. It is appended to
before a frame is acknowledged, and never changed. Copies of a fact are all kept: which of them counts is for the rules.

Offsets come without gaps, as they stand in the topic. One that is there already changes nothing; one that would leave a
gap is refused (`OffsetGap`), so that a frame which was skipped cannot pass unseen: read the topic again from
`next_offset()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from metering.facts import AnyFact, CalorificValue, meter_point_of
from metering.gasday import to_datetime, to_us
from metering.wire import Entry, PackedReadings, decode_fact, encode_fact
from storage.sqlite import open_database, read_database

_Subject = tuple[str, str]  # ("point", meter point) or ("ldz", LDZ)
_Row = tuple[int, int, int, bytes]  # offset, number in the frame, received_at (µs), packed fact

_SCHEMA = """
CREATE TABLE position (next_offset INTEGER NOT NULL);
INSERT INTO position VALUES (0);
CREATE TABLE subject (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE fact (
    subject INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    number INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    packed BLOB NOT NULL,
    PRIMARY KEY (subject, "offset", number)
) WITHOUT ROWID;
"""
# Each Day of a meter point rewrites a page of the file, so pages are copied back from the write-ahead log rarely: at 32 MiB.
_CHECKPOINT_PAGES = 8000


class OffsetGap(ValueError):
    """A frame between the last one appended and this one is missing."""


class FactStore(Protocol):
    """What all fact stores do. A store has one caller at a time."""

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        """Keeps the facts of one frame, as `append_all` does."""

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        """Keeps the facts of frames, each with its offset, the facts with their `received_at` or as they stand there; all,
        or none.

        When it returns they survive the end of the process. A power cut may take the latest frames, and `next_offset()`
        with them. Facts of a meter point and calorific values are kept; of others, and of a frame without facts, only
        that the frame has been. An offset below `next_offset()` changes nothing; one above it raises OffsetGap.
        """

    def next_offset(self) -> int:
        """The offset of the first frame that is not here; 0 when empty."""

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        """The facts of a meter point, by offset and place in the frame; of the frames before `before_offset`."""

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        """The calorific values of these LDZs, in the same order and of the same frames as `of_point`."""

    def points(self) -> list[str]:
        """The meter points of which there are facts, sorted."""

    def close(self) -> None:
        """Closes the store; to be called once."""


def fact_store_path(directory: Path, partition: int) -> Path:
    """The file of a partition's facts: `facts-00003.sqlite` for partition 3."""
    return directory / f"facts-{partition:05}.sqlite"


class MemoryFactStore:
    """Facts in memory, for runs that end with the process."""

    def __init__(self) -> None:
        self._rows: dict[_Subject, list[_Row]] = {}
        self._next_offset = 0

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        self.append_all([(offset, facts)])

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        rows, next_offset = _new_rows(frames, self._next_offset)
        for subject, row in rows:
            self._rows.setdefault(subject, []).append(row)
        self._next_offset = next_offset

    def next_offset(self) -> int:
        return self._next_offset

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        return _facts(self._of(("point", meter_point), before_offset))

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        rows = [row for ldz in set(ldzs) for row in self._of(("ldz", ldz), before_offset)]
        return _calorific_values(rows)

    def points(self) -> list[str]:
        return sorted(name for kind, name in self._rows if kind == "point")

    def close(self) -> None:
        self._rows.clear()

    def _of(self, subject: _Subject, before_offset: int | None) -> list[_Row]:
        rows = self._rows.get(subject, [])
        return rows if before_offset is None else [row for row in rows if row[0] < before_offset]


class SqliteFactStore:
    """Facts in one SQLite file. Clustered by meter point, so that one point's history is read in one sweep.

    Opening it raises StoreError where the file is of another version or damaged. With `read_only` the file must be there, and
    whoever writes it may go on.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        if read_only:
            self._db = read_database(path, version=1)
        else:
            self._db = open_database(path, _SCHEMA, version=1, synchronous="NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._ids: dict[_Subject, int] = {}

    def append(self, offset: int, facts: Sequence[AnyFact | Entry]) -> None:
        self.append_all([(offset, facts)])

    def append_all(self, frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]]) -> None:
        new: dict[_Subject, int] = {}
        with self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            before = self.next_offset()
            rows, next_offset = _new_rows(frames, before)
            if next_offset == before:
                return
            keyed = [(self._id(subject, new), *row) for subject, row in rows]
            self._db.executemany("INSERT INTO fact VALUES (?, ?, ?, ?, ?)", keyed)
            self._db.execute("UPDATE position SET next_offset = ?", (next_offset,))
        self._ids |= new

    def next_offset(self) -> int:
        row = self._db.execute("SELECT next_offset FROM position").fetchone()
        return int(row[0])

    def of_point(self, meter_point: str, before_offset: int | None = None) -> list[AnyFact]:
        return _facts(self._of(("point", meter_point), before_offset))

    def calorific_values(self, ldzs: Iterable[str], before_offset: int | None = None) -> list[CalorificValue]:
        rows = [row for ldz in set(ldzs) for row in self._of(("ldz", ldz), before_offset)]
        return _calorific_values(rows)

    def points(self) -> list[str]:
        rows = self._db.execute("SELECT name FROM subject WHERE kind = 'point'")
        return sorted(name for (name,) in rows)

    def close(self) -> None:
        self._db.close()

    def _id(self, subject: _Subject, new: dict[_Subject, int]) -> int:
        # Numbers given within a transaction are remembered only once it is committed.
        known = self._ids.get(subject) or new.get(subject)
        if known is None:
            self._db.execute("INSERT OR IGNORE INTO subject (kind, name) VALUES (?, ?)", subject)
            row = self._db.execute("SELECT id FROM subject WHERE kind = ? AND name = ?", subject).fetchone()
            known = new[subject] = int(row[0])
        return known

    def _of(self, subject: _Subject, before_offset: int | None) -> list[_Row]:
        return self._db.execute(
            'SELECT "offset", number, received_us, packed FROM fact'
            " WHERE subject = (SELECT id FROM subject WHERE kind = ? AND name = ?)"
            ' AND "offset" < ? ORDER BY "offset", number',
            (*subject, 2**63 - 1 if before_offset is None else before_offset),
        ).fetchall()


def _new_rows(
    frames: Sequence[tuple[int, Sequence[AnyFact | Entry]]], next_offset: int
) -> tuple[list[tuple[_Subject, _Row]], int]:
    """The rows of those frames that are not there yet, and the offset after them."""
    found: list[tuple[_Subject, _Row]] = []
    for offset, facts in frames:
        rows = _rows(offset, facts)
        if _is_next(offset, next_offset):
            found += rows
            next_offset = offset + 1
    return found, next_offset


def _is_next(offset: int, next_offset: int) -> bool:
    """Whether the frame is to be appended; False where it is there already."""
    if offset > next_offset:
        raise OffsetGap(f"frame {offset} comes after {next_offset - 1}: frame {next_offset} is missing")
    return offset == next_offset


def _rows(offset: int, facts: Sequence[AnyFact | Entry]) -> list[tuple[_Subject, _Row]]:
    rows: list[tuple[_Subject, _Row]] = []
    for number, fact in enumerate(facts):
        if isinstance(fact, Entry):
            if (subject := _subject(fact.content)) is not None:
                rows.append((subject, (offset, number, to_us(fact.received_at), fact.packed)))
            continue
        if fact.received_at is None:
            raise ValueError(f"fact {number} of frame {offset} has no received_at")
        subject = _subject(fact)
        if subject is not None:
            rows.append((subject, (offset, number, to_us(fact.received_at), encode_fact(fact))))
    return rows


def _subject(fact: AnyFact | PackedReadings) -> _Subject | None:
    point = meter_point_of(fact)
    if point is not None:
        return ("point", point)
    return ("ldz", fact.ldz) if isinstance(fact, CalorificValue) else None


def _facts(rows: Iterable[_Row]) -> list[AnyFact]:
    return [decode_fact(packed, to_datetime(received_us)) for _, _, received_us, packed in rows]


def _calorific_values(rows: list[_Row]) -> list[CalorificValue]:
    return [fact for fact in _facts(sorted(rows)) if isinstance(fact, CalorificValue)]
