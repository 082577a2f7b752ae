"""What has to be given to Users, and what they were given, in one SQLite file: a restart neither skips nor changes a version.

`take` keeps what stands by the ledger and the facts, together with how far the topics have been read. `prepare` makes the
editions that are due: from then on a version's content is fixed, and waits here until it is published (`done`). So
whatever ends the process, what waits is published again, the same bytes under the same version.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from metering.facts import AnyFact, Readings, Withdrawn
from metering.gasday import GasDays, to_us
from metering.ledger import Day
from metering.messages import LedgerMessage
from metering.provision import (
    DAILY,
    Cells,
    FileName,
    Given,
    Key,
    Timing,
    content,
    daily_due_us,
    daily_row,
    hourly_row,
    is_valid,
    key_of,
    next_edition,
    part_due_us,
    part_of,
    valid_rows,
)
from storage.sqlite import open_database

Position = tuple[str, int]  # topic, partition

_SCHEMA = """
CREATE TABLE position (topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE horizon (first_day INTEGER NOT NULL);
INSERT INTO horizon VALUES (0);
CREATE TABLE day (
    gas_day INTEGER, meter_point TEXT, facts_offset INTEGER NOT NULL, users TEXT NOT NULL, cells TEXT, closed_out INTEGER,
    PRIMARY KEY (gas_day, meter_point)
) WITHOUT ROWID;
CREATE TABLE reading (
    gas_day INTEGER, part INTEGER, meter_point TEXT, meter TEXT, at_us INTEGER,
    ticks INTEGER NOT NULL, received_us INTEGER NOT NULL,
    PRIMARY KEY (gas_day, part, meter_point, meter, at_us)
) WITHOUT ROWID;
CREATE TABLE due (
    gas_day INTEGER, part INTEGER, user TEXT, due_us INTEGER NOT NULL, PRIMARY KEY (gas_day, part, user)
) WITHOUT ROWID;
CREATE INDEX due_by_instant ON due (due_us);
CREATE TABLE given (
    gas_day INTEGER, part INTEGER, user TEXT, row_key TEXT, cells TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (gas_day, part, user, row_key)
) WITHOUT ROWID;
CREATE TABLE edition (
    gas_day INTEGER, part INTEGER, user TEXT, version INTEGER NOT NULL, PRIMARY KEY (gas_day, part, user)
) WITHOUT ROWID;
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY, gas_day INTEGER, part INTEGER, user TEXT, version INTEGER NOT NULL,
    content BLOB NOT NULL, provided TEXT NOT NULL, made_us INTEGER NOT NULL
);
"""
_BY_DAY = ("day", "reading", "due", "given", "edition")
_KEY_MARK = "\x1f"


class Terms(NamedTuple):
    """How Users are provided. `hourly_users` get the hourly readings, all of them where none is named; `back_days`: Days
    further back are not given any more."""

    days: GasDays
    timing: Timing
    boundary_us: int
    back_days: int
    hourly_users: frozenset[str] = frozenset()


class Version(NamedTuple):
    """A version of a file: its number, what it holds, and the instant at which it was made."""

    number: int
    content: bytes
    made_us: int


class Publication(NamedTuple):
    """A version of a file that waits to be published, made at `made_us`. `provided`: the meter points of which it gives
    Valid readings that are new or changed, each with its row's version."""

    id: int
    file: FileName
    version: int
    content: bytes
    provided: tuple[tuple[str, int], ...]
    made_us: int


class ProvisionBook:
    """The book in one SQLite file, for one process at a time; StoreError where the file cannot be used."""

    def __init__(self, path: Path, terms: Terms) -> None:
        self._db = open_database(path, _SCHEMA, version=1, synchronous="FULL", exclusive=True)
        self._terms = terms

    @property
    def empty(self) -> bool:
        """Whether nothing was ever taken or restored."""
        return not self.positions() and self._db.execute("SELECT 1 FROM edition").fetchone() is None

    def positions(self) -> dict[Position, int]:
        """Of each partition read so far the offset of the next message to read."""
        rows = self._db.execute("SELECT topic, partition, next_offset FROM position")
        return {(topic, partition): offset for topic, partition, offset in rows}

    def take(
        self, messages: Iterable[LedgerMessage], facts: Iterable[AnyFact], positions: Mapping[Position, int], now_us: int
    ) -> None:
        """Keeps what the messages of the ledger and the facts say, and that the topics are read up to there; all, or none."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            first_day = self._first_day()
            for message in messages:
                if message.key[0] == "day" and (day := _day_of(message)) >= first_day:
                    self._take_day(day, message, now_us)
            for fact in facts:
                if isinstance(fact, Readings) and fact.source == "dre" and fact.gas_day.toordinal() >= first_day:
                    self._take_readings(fact, now_us)
                elif isinstance(fact, Withdrawn):
                    self._take_back(fact, now_us)
            rows = [(topic, partition, offset) for (topic, partition), offset in positions.items()]
            self._db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", rows)

    def prepare(self, now_us: int) -> int:
        """Makes the editions that are due; returns how many. What has not changed makes none."""
        query = "SELECT DISTINCT gas_day, part FROM due WHERE due_us <= ? ORDER BY gas_day, part"
        made = 0
        for gas_day, part in self._db.execute(query, (now_us,)).fetchall():
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                made += self._prepare(gas_day, part, now_us)
        self._forget(now_us)
        return made

    def waiting(self, limit: int) -> list[Publication]:
        """What waits to be published, the longest first; of one file only its first version."""
        query = """
            SELECT id, user, gas_day, part, version, content, provided, made_us FROM waiting
            WHERE id IN (SELECT min(id) FROM waiting GROUP BY gas_day, part, user) ORDER BY id LIMIT ?
        """
        return [
            Publication(number, FileName(user, gas_day, part), version, text, _pairs(provided), made_us)
            for number, user, gas_day, part, version, text, provided, made_us in self._db.execute(query, (limit,))
        ]

    def done(self, publications: Sequence[Publication]) -> None:
        """Takes out what has been published."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM waiting WHERE id = ?", [(each.id,) for each in publications])

    def restore(self, published: Iterable[tuple[FileName, Version]]) -> int:
        """Takes over the versions that were published before this book was lost; returns how many files there are.

        The last version of each waits once more: what comes behind its message may be missing.
        """
        last: dict[FileName, Version] = {}
        for file, version in published:
            if file not in last or version.number > last[file].number:  # of copies the first
                last[file] = version
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for file, version in last.items():
                rows = _read(file.part, version.content)
                self._note(file, version.number, rows)
                self._wait(file, version, valid_rows(rows) if file.part == DAILY else [])
        return len(last)

    def close(self) -> None:
        """Closes the file; to be called once."""
        self._db.close()

    # What stands.

    def _take_day(self, day: int, message: LedgerMessage, now_us: int) -> None:
        meter_point = message.key[1]
        query = "SELECT facts_offset, users, cells, closed_out FROM day WHERE gas_day = ? AND meter_point = ?"
        offset, users, cells, closed_out = self._db.execute(query, (day, meter_point)).fetchone() or (-1, "[]", None, 0)
        if closed_out or message.offset < offset:
            return
        record = message.record if isinstance(message.record, Day) else None
        new_users = json.dumps(sorted(set(record.users)) if record else [])
        new_cells = json.dumps(daily_row(record)) if record else None
        row = (day, meter_point, message.offset, new_users, new_cells, bool(record and record.closed_out))
        self._db.execute("INSERT OR REPLACE INTO day VALUES (?, ?, ?, ?, ?, ?)", row)
        if (new_users, new_cells) == (users, cells):
            return
        before, after = set(json.loads(users)), set(json.loads(new_users))
        speaks = record is not None and (record.valid or record.closed_out)
        for user in before | after:
            self._daily_due(user, day, speaks or self._was_given(user, day, meter_point), now_us)
        for part in self._parts(day, meter_point) if before != after else ():
            self._hourly_due(before ^ after, day, part, now_us)

    def _take_readings(self, fact: Readings, now_us: int) -> None:
        """Of readings of one instant that received first stands, or the smaller; what is no reading of the Day is left out."""
        days, day = self._terms.days, fact.gas_day.toordinal()
        assert fact.received_at is not None
        received_us = to_us(fact.received_at)
        if received_us > days.exit_close_out_us(day):
            return
        parts = set()
        for at, index in zip(fact.instants(), fact.index, strict=True):
            part = part_of(day, to_us(at), days, self._terms.boundary_us)
            if part is not None and type(index) is int and index >= 0:
                row = (day, part, fact.meter_point, fact.meter, to_us(at), index, received_us)
                parts |= {part} if self._db.execute(_KEEP_FIRST, row).rowcount else set()
        for part in parts:
            self._hourly_due(self._users(day, fact.meter_point), day, part, now_us)

    def _take_back(self, fact: Withdrawn, now_us: int) -> None:
        """An operator withdraws what was received so far of a meter's Day."""
        assert fact.received_at is not None
        day = fact.gas_day.toordinal()
        which = (day, fact.meter_point, fact.meter, to_us(fact.received_at))
        found = "FROM reading WHERE gas_day = ? AND meter_point = ? AND meter = ? AND received_us <= ?"
        parts = {part for (part,) in self._db.execute(f"SELECT DISTINCT part {found}", which)}
        self._db.execute(f"DELETE {found}", which)
        for part in parts:
            self._hourly_due(self._users(day, fact.meter_point), day, part, now_us)

    def _daily_due(self, user: str, day: int, speaks: bool, now_us: int) -> None:
        self._due(user, day, DAILY, daily_due_us(day, now_us, speaks, self._terms.days, self._terms.timing))

    def _hourly_due(self, users: Iterable[str], day: int, part: int, now_us: int) -> None:
        wanted = self._terms.hourly_users
        for user in users:
            if not wanted or user in wanted:
                self._due(user, day, part, part_due_us(day, part, now_us, self._terms.days, self._terms.timing))

    def _due(self, user: str, day: int, part: int, due_us: int) -> None:
        self._db.execute(
            "INSERT INTO due VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET due_us = min(due_us, excluded.due_us)",
            (day, part, user, due_us),
        )

    def _was_given(self, user: str, day: int, meter_point: str) -> bool:
        query = "SELECT 1 FROM given WHERE gas_day = ? AND part = ? AND user = ? AND row_key = ?"
        return self._db.execute(query, (day, DAILY, user, meter_point)).fetchone() is not None

    def _users(self, day: int, meter_point: str) -> list[str]:
        query = "SELECT users FROM day WHERE gas_day = ? AND meter_point = ?"
        row = self._db.execute(query, (day, meter_point)).fetchone()
        return list(json.loads(row[0])) if row else []

    def _parts(self, day: int, meter_point: str) -> list[int]:
        query = "SELECT DISTINCT part FROM reading WHERE gas_day = ? AND meter_point = ?"
        return [part for (part,) in self._db.execute(query, (day, meter_point))]

    # What is given.

    def _prepare(self, gas_day: int, part: int, now_us: int) -> int:
        query = "SELECT user FROM due WHERE gas_day = ? AND part = ? AND due_us <= ? ORDER BY user"
        users = [user for (user,) in self._db.execute(query, (gas_day, part, now_us))]
        standing: defaultdict[str, dict[Key, Cells]] = defaultdict(dict)
        for owners, cells in self._standing(gas_day, part):
            for user in owners:
                standing[user][key_of(cells, part)] = cells
        made = 0
        for user in users:
            file = FileName(user, gas_day, part)
            edition = next_edition(self._given(file), standing[user], self._version(file))
            if edition is not None:
                provided = [edition.rows[key] for key in edition.changed] if part == DAILY else []
                facts = [(each.cells[0], each.version) for each in provided if is_valid(each.cells)]
                self._note(file, edition.version, edition.rows)
                self._wait(file, Version(edition.version, content(part, edition.rows), now_us), facts)
                made += 1
        self._db.execute("DELETE FROM due WHERE gas_day = ? AND part = ? AND due_us <= ?", (gas_day, part, now_us))
        return made

    def _standing(self, gas_day: int, part: int) -> Iterator[tuple[list[str], Cells]]:
        """The rows that stand, each with its Users."""
        if part == DAILY:
            query = "SELECT users, cells FROM day WHERE gas_day = ? AND cells IS NOT NULL"
            for users, cells in self._db.execute(query, (gas_day,)):
                yield json.loads(users), tuple(json.loads(cells))
            return
        query = """
            SELECT users, meter_point, meter, at_us, ticks FROM reading JOIN day USING (gas_day, meter_point)
            WHERE gas_day = ? AND part = ?
        """
        for users, meter_point, meter, at_us, ticks in self._db.execute(query, (gas_day, part)):
            yield json.loads(users), hourly_row(meter_point, gas_day, meter, at_us, ticks)

    def _given(self, file: FileName) -> dict[Key, Given]:
        query = "SELECT row_key, cells, version FROM given WHERE gas_day = ? AND part = ? AND user = ?"
        rows = self._db.execute(query, (file.gas_day, file.part, file.user))
        return {tuple(key.split(_KEY_MARK)): Given(tuple(json.loads(cells)), version) for key, cells, version in rows}

    def _version(self, file: FileName) -> int:
        query = "SELECT version FROM edition WHERE gas_day = ? AND part = ? AND user = ?"
        row = self._db.execute(query, (file.gas_day, file.part, file.user)).fetchone()
        return int(row[0]) if row else 0

    def _note(self, file: FileName, version: int, rows: Mapping[Key, Given]) -> None:
        """Remembers what the User has with this version."""
        place = (file.gas_day, file.part, file.user)
        self._db.execute("DELETE FROM given WHERE gas_day = ? AND part = ? AND user = ?", place)
        given = [(*place, _KEY_MARK.join(key), json.dumps(each.cells), each.version) for key, each in rows.items()]
        self._db.executemany("INSERT INTO given VALUES (?, ?, ?, ?, ?, ?)", given)
        self._db.execute("INSERT OR REPLACE INTO edition VALUES (?, ?, ?, ?)", (*place, version))

    def _wait(self, file: FileName, version: Version, provided: Sequence[tuple[str, int]]) -> None:
        row = (file.gas_day, file.part, file.user, version.number, version.content, json.dumps(provided), version.made_us)
        columns = "gas_day, part, user, version, content, provided, made_us"
        self._db.execute(f"INSERT INTO waiting ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    # What is forgotten.

    def _first_day(self) -> int:
        return int(self._db.execute("SELECT first_day FROM horizon").fetchone()[0])

    def _forget(self, now_us: int) -> None:
        """Takes out the Days that lie too far back, for good. The ledger's newest Day bounds what a wrong clock can do."""
        newest = self._db.execute("SELECT max(gas_day) FROM day").fetchone()[0]
        first_day = min(self._terms.days.day_of(now_us), newest or 0) - self._terms.back_days
        if first_day <= self._first_day():
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE horizon SET first_day = ?", (first_day,))
            for table in _BY_DAY:
                self._db.execute(f"DELETE FROM {table} WHERE gas_day < ?", (first_day,))


_KEEP_FIRST = """
INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ticks = excluded.ticks, received_us = excluded.received_us
WHERE (excluded.received_us, excluded.ticks) < (received_us, ticks) AND excluded.ticks <> ticks
"""


def _day_of(message: LedgerMessage) -> int:
    """The Gas Day of a record or void of the kind `day`."""
    return date.fromisoformat(message.key[2]).toordinal()


def _read(part: int, text: bytes) -> dict[Key, Given]:
    """The rows of a file that was published."""
    lines = csv.reader(io.StringIO(text.decode(), newline=""))
    next(lines)
    rows = [Given(tuple(line[:-1]), int(line[-1])) for line in lines]
    return {key_of(each.cells, part): each for each in rows}


def _pairs(text: str) -> tuple[tuple[str, int], ...]:
    return tuple((meter_point, version) for meter_point, version in json.loads(text))
