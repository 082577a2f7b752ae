"""The durable outbox: facts on the gateway's disk, from the moment a meter's data counts as read until Kafka has them.

One SQLite file in WAL mode with `synchronous=FULL`: what `put` returned from survives a kill and a power cut. Facts leave
only by `acknowledge`, or at the cap, and then never silently (`outbox_cap.py`). In the same transaction stands which Gas
Days of which meter are done, so that a restart neither asks again for what is stored nor believes to have what is not.

The file has a random id, made with it: `sequence` is contiguous per gateway, outbox and meter point, so that a gap in what
arrives shows a loss, and a new file is not taken for one. A second file beside it reserves room on the disk, which is
freed when the disk is full: to take facts out, SQLite must write.

A file that is corrupt, at its opening or later, is renamed and reported, and a new one is made: with another id, and no Day
done, so the meters are asked again for all that they still know.

All methods may be called from any thread; `put` waits for the disk (some milliseconds), so asyncio programs call it in
a thread.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from collectors.outbox_cap import (
    HOUR_US,
    ROOM,
    CannotGiveUp,
    Cap,
    Loss,
    class_of,
    give_up_most,
    give_up_old,
    held_bytes,
    record,
    stored_fact,
)
from collectors.outbox_file import DISK_FULL, OutboxError, OutboxFull, connect, explained, hold, is_damage
from metering.facts import AnyFact, Readings, meter_point_of
from metering.gasday import GasDays, to_datetime, to_us
from metering.wire import FRAME_BYTES_MAX, encode_fact

__all__ = ["FACT_BYTES_MAX", "Backlog", "Cap", "GivenUpSoFar", "Outbox", "OutboxError", "OutboxFull", "StoredFact", "Told"]

log = logging.getLogger(__name__)

RESERVE_BYTES = 2 * 1024 * 1024
FACT_BYTES_MAX = FRAME_BYTES_MAX - 1024  # leaves room for the envelope
AGE_CHECK_US = HOUR_US // 6


class StoredFact(msgspec.Struct, frozen=True):
    """A fact that waits: its number, when it was put, by the clock that the caller keeps, and its size in bytes."""

    id: int
    committed_at: datetime
    fact: AnyFact
    size: int


class Told(NamedTuple):
    """An alarm that a fact has told of: its kind, and a Gas Day (ordinal) on which it was there."""

    kind: str
    gas_day: int


class Backlog(msgspec.Struct, frozen=True):
    """What waits: how many facts, how many bytes of them, and since when the oldest."""

    facts: int
    bytes: int
    oldest_at: datetime | None


class GivenUpSoFar(msgspec.Struct, frozen=True):
    """What went at the cap since the file was made: readings, reports; and of how many Days meters are still to be asked."""

    readings: int
    reports: int
    days_to_ask: int


class Outbox:
    """The outbox in the file `path`, of the gateway `gateway`; made when absent.

    `set_aside`: what the last corrupt file is called now. OutboxError where another process has the file, it is of a later
    format, or the disk refuses.
    """

    def __init__(self, path: Path, gateway: str, cap: Cap | None = None, days: GasDays | None = None) -> None:
        self.path = path
        self.gateway = gateway
        self.set_aside: Path | None = None
        self._cap, self._days = cap or Cap(), days or GasDays()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._reserve = path.with_name(path.name + ".reserve")
        self._age_checked_us: int | None = None
        self._gives_up = self._is_to_be_made = self._is_unreadable = False
        self._held = hold(path.with_name(path.name + ".lock"))
        try:
            self._db = self._open()
            self.id = self._read_id()
        except BaseException:
            self._held.close()
            raise

    def put(
        self,
        facts: Iterable[AnyFact],
        now: datetime,
        done: Iterable[tuple[str, date]] = (),
        told: Iterable[tuple[str, frozenset[Told]]] = (),
    ) -> None:
        """Store the facts, committed at `now`, that these (meter, Gas Day) are done, and which alarms of a meter are told
        now, in the place of what was told before: all of it, or OutboxError and none.

        Readings get this gateway, this outbox and their sequence. The instant is kept to the millisecond, as Kafka does.
        What goes at the cap goes in the same transaction. ValueError for a fact too large for a frame.
        """
        committed_us = to_us(now) // 1000 * 1000
        self._keep_reserve()
        with self._transaction() as db:
            for fact in facts:
                self._insert(db, fact, committed_us)
            days = [(meter, day.toordinal()) for meter, day in done]
            db.executemany("INSERT OR IGNORE INTO done (meter, gas_day) VALUES (?, ?)", days)
            for meter, alarms in told:
                db.execute("DELETE FROM alarms WHERE meter = ?", (meter,))
                db.executemany("INSERT INTO alarms VALUES (?, ?, ?)", [(meter, *alarm) for alarm in alarms])
            loss = self._within_cap(db, committed_us)
        self._tell(loss)
        for listener in self._listeners:
            listener()

    def pending(self, limit: int, after: int = 0) -> list[StoredFact]:
        """The oldest facts that are not acknowledged, in the order they were put: at most `limit`, with ids above `after`.

        What this program cannot read, for its octets are spoiled or a later version put it there, is passed over and stays.
        """
        query = "SELECT id, committed_us, packed FROM facts WHERE id > ? ORDER BY id LIMIT ?"
        found: list[StoredFact] = []
        with self._reading() as db:
            while len(found) < limit and (rows := db.execute(query, (after, limit - len(found))).fetchall()):
                for after, us, packed in rows:
                    if (fact := stored_fact(packed)) is not None:
                        found.append(StoredFact(after, to_datetime(us), fact, len(packed)))
                    else:
                        self._say_unreadable(after)
        return found

    def acknowledge(self, ids: Iterable[int]) -> None:
        """These facts are in Kafka: they leave the outbox, on a full disk too."""
        numbers = [(number,) for number in ids]
        try:
            self._delete(numbers)
        except OutboxFull:
            self._free_reserve()
            self._delete(numbers)

    def backlog(self) -> Backlog:
        """What waits."""
        with self._reading() as db:
            count, size = db.execute("SELECT sum(facts), sum(bytes) FROM held").fetchone()
            oldest = db.execute("SELECT committed_us FROM facts ORDER BY id LIMIT 1").fetchone()
        return Backlog(count, size, None if oldest is None else to_datetime(oldest[0]))

    def given_up(self) -> GivenUpSoFar:
        """What went at the cap so far."""
        query = (
            "SELECT coalesce(sum(readings), 0), (SELECT reports_given_up FROM about), coalesce(sum(to_ask), 0) FROM given_up"
        )
        with self._reading() as db:
            return GivenUpSoFar(*db.execute(query).fetchone())

    def files_set_aside(self) -> int:
        """How many corrupt files stand beside this one, until somebody takes them away."""
        return sum(
            1 for path in self.path.parent.glob(f"{self.path.name}.corrupt-*") if not path.suffix.endswith(("-wal", "-shm"))
        )

    def days_to_ask(self, now: datetime) -> list[tuple[str, date]]:
        """The (meter, Gas Day) of which readings were given up, the newest first; none until there is room for them:
        less than half of the cap is taken, and nothing waits for more than an hour."""
        with self._reading() as db:
            if not self._has_room(db, to_us(now)):
                return []
            rows = db.execute("SELECT meter, gas_day FROM given_up WHERE to_ask ORDER BY gas_day DESC, meter").fetchall()
        return [(meter, date.fromordinal(day)) for meter, day in rows]

    def ask_again(self, days: Iterable[tuple[str, date]]) -> None:
        """These (meter, Gas Day) are owed again: no longer done, until they are put as done once more."""
        rows = [(meter, day.toordinal()) for meter, day in days]
        with self._transaction() as db:
            db.executemany("UPDATE given_up SET to_ask = 0 WHERE meter = ? AND gas_day = ?", rows)
            db.executemany("DELETE FROM done WHERE meter = ? AND gas_day = ?", rows)

    def done_days(self, meter: str, since: date = date.min) -> set[date]:
        """The Gas Days from `since` on that are done for the meter."""
        query = "SELECT gas_day FROM done WHERE meter = ? AND gas_day >= ?"
        with self._reading() as db:
            return {date.fromordinal(day) for (day,) in db.execute(query, (meter, since.toordinal()))}

    def told(self, meter: str) -> frozenset[Told]:
        """Which of the meter's alarms are told, as last put."""
        with self._reading() as db:
            rows = db.execute("SELECT kind, gas_day FROM alarms WHERE meter = ?", (meter,)).fetchall()
        return frozenset(Told(*row) for row in rows)

    def on_put(self, listener: Callable[[], None]) -> None:
        """`listener` is called, in the putting thread, after every `put`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._db.close()
            self._held.close()

    def _say_unreadable(self, number: int) -> None:
        if not self._is_unreadable:
            log.error("%s: fact %d cannot be read by this version; it, and any other like it, stays", self.path, number)
        self._is_unreadable = True

    def _delete(self, numbers: list[tuple[int]]) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM facts WHERE id = ?", numbers)

    def _insert(self, db: sqlite3.Connection, fact: AnyFact, committed_us: int) -> None:
        if isinstance(fact, Readings):
            fact = self._numbered(db, fact)
        packed = encode_fact(fact)
        if len(packed) > FACT_BYTES_MAX:
            raise ValueError(f"a fact of {len(packed)} bytes; allowed: at most {FACT_BYTES_MAX}")
        goes, gas_day = class_of(fact, self._days, committed_us)
        db.execute(
            "INSERT INTO facts (meter_point, committed_us, packed, goes, gas_day) VALUES (?, ?, ?, ?, ?)",
            (meter_point_of(fact), committed_us, packed, goes, gas_day),
        )

    def _within_cap(self, db: sqlite3.Connection, now_us: int) -> Loss:
        """Brings what waits within the cap; what had to go for it is recorded."""
        loss = Loss()
        if self._age_checked_us is None or abs(now_us - self._age_checked_us) >= AGE_CHECK_US:
            give_up_old(db, self._cap, self._days, now_us, loss)
            self._age_checked_us = now_us
        try:
            give_up_most(db, self._cap, self._days, loss)
        except CannotGiveUp:
            taken = f"{self.path}: the cap of {self._cap.max_bytes} bytes is reached, and nothing that waits may be given up"
            raise OutboxFull(f"{taken}; nothing was stored") from None
        if loss:
            record(db, loss, self._cap, now_us)
        return loss

    def _tell(self, loss: Loss) -> None:
        """One line in the log when giving up begins, one when there is room again (`_has_room`)."""
        if loss and not self._gives_up:
            what = f"{sum(loss.readings.values())} readings and {loss.reports} reports"
            log.error("%s: at its cap (%s); given up for a start: %s, and more from now on", self.path, self._cap.words(), what)
            self._gives_up = True

    def _has_room(self, db: sqlite3.Connection, now_us: int) -> bool:
        if self._cap.max_bytes is not None and held_bytes(db) > ROOM * self._cap.max_bytes:
            return False
        oldest = db.execute("SELECT committed_us FROM facts ORDER BY id LIMIT 1").fetchone()
        if oldest is not None and now_us - oldest[0] > HOUR_US:
            return False
        if self._gives_up:
            log.warning("%s: has room again", self.path)
        self._gives_up = False
        return True

    def _keep_reserve(self) -> None:
        """Allocates the reserve where it is missing; OutboxFull where there is no room for it."""
        if self._reserve.exists():
            return
        self._truncate_log()
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            if error.errno == errno.ENOSPC:
                raise OutboxFull(DISK_FULL.format(path=self.path)) from error
            raise OutboxError(f"{self._reserve}: {error.strerror}") from error

    def _free_reserve(self) -> None:
        self._reserve.unlink(missing_ok=True)
        self._truncate_log()

    def _truncate_log(self) -> None:
        with self._reading() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _numbered(self, db: sqlite3.Connection, fact: Readings) -> Readings:
        db.execute(
            "INSERT INTO sequences VALUES (?, 0) ON CONFLICT (meter_point) DO UPDATE SET last = last + 1",
            (fact.meter_point,),
        )
        (last,) = db.execute("SELECT last FROM sequences WHERE meter_point = ?", (fact.meter_point,)).fetchone()
        return msgspec.structs.replace(fact, gateway=self.gateway, outbox=self.id, sequence=last)

    def _open(self) -> sqlite3.Connection:
        try:
            return connect(self.path, self._days)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise explained(error, self.path) from error
            self._set_aside(str(error))
        try:
            return connect(self.path, self._days)
        except sqlite3.DatabaseError as error:
            raise explained(error, self.path) from error

    def _read_id(self) -> str:
        (found,) = self._db.execute("SELECT outbox FROM about").fetchone()
        (self._last_id,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'facts'").fetchone()
        return str(found)

    def _set_aside(self, reason: str) -> None:
        self.set_aside = self.path.with_name(f"{self.path.name}.corrupt-{secrets.token_hex(4)}")
        self.path.rename(self.set_aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(f"{self.set_aside}{suffix}")
        log.error("outbox %s is corrupt (%s): set aside as %s; a new one is made", self.path, reason, self.set_aside.name)

    def _replace(self, reason: str) -> None:
        """The file turned out to be corrupt: a new one in its place. Its ids begin where the old one's ended, or an
        acknowledgement of what was in the old one could take away what is in the new one."""
        self._is_to_be_made = True
        with suppress(sqlite3.Error):
            self._db.close()
        self._set_aside(reason)
        self._make_anew()

    def _make_anew(self) -> None:
        """OutboxError where the disk refuses: then it is made at the next use."""
        last = self._last_id
        self._db = self._open()
        try:
            self._db.execute("INSERT INTO sqlite_sequence VALUES ('facts', ?)", (last,))
        except sqlite3.Error as error:
            self._db.close()
            raise explained(error, self.path) from error
        self.id = self._read_id()
        self._is_to_be_made = False

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                (last_id,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'facts'").fetchone()
                db.execute("COMMIT")
                self._last_id = last_id
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._is_to_be_made:
                self._make_anew()
            try:
                yield self._db
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise explained(error, self.path) from error
                self._replace(str(error))
                raise OutboxError(f"{self.path}: was corrupt ({error}) and is set aside; a new one is made") from error
