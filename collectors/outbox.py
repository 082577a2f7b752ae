"""The durable outbox: facts on the gateway's disk, from the moment a meter's data counts as read until Kafka has them.

One SQLite file in WAL mode with `synchronous=FULL`: what `put` returned from survives a kill and a power cut. Facts leave
only by `acknowledge`. In the same transaction stands which Gas Days of which meter are done, so that a restart neither
asks again for what is stored nor believes to have what is not.

The file has a random id, made with it: `sequence` is contiguous per gateway, outbox and meter point, so that a gap in what
arrives shows a loss, and a new file is not taken for one. A second file beside it reserves room on the disk, which is
freed when the disk is full: to take facts out, SQLite must write.

All methods may be called from any thread; `put` waits for the disk (some milliseconds), so asyncio programs call it in
a thread.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import IO

import msgspec

from metering.facts import AnyFact, Readings, meter_point_of
from metering.gasday import to_datetime, to_us
from metering.wire import FRAME_BYTES_MAX, decode_fact, encode_fact

log = logging.getLogger(__name__)

FORMAT = 1
RESERVE_BYTES = 2 * 1024 * 1024
FACT_BYTES_MAX = FRAME_BYTES_MAX - 1024  # leaves room for the envelope
_FULL = "{path}: the disk is full, nothing was stored; what was stored before stays readable"
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = """
CREATE TABLE about (outbox TEXT NOT NULL);
-- AUTOINCREMENT: an id is never given twice, so a late acknowledgement cannot take away another fact.
CREATE TABLE facts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    meter_point TEXT,
    committed_us INTEGER NOT NULL,
    packed BLOB NOT NULL
);
CREATE TABLE sequences (meter_point TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE done (meter TEXT, gas_day INTEGER, PRIMARY KEY (meter, gas_day)) WITHOUT ROWID;
"""


class OutboxError(Exception):
    """The outbox cannot be used; the message says why."""


class OutboxFull(OutboxError):
    """The disk is full: nothing was put. What is stored stays readable and can be published."""


class StoredFact(msgspec.Struct, frozen=True):
    """A fact that waits: its number, when it was put, by the clock that the caller keeps, and its size in bytes."""

    id: int
    committed_at: datetime
    fact: AnyFact
    size: int


class Backlog(msgspec.Struct, frozen=True):
    """What waits: how many facts, how many bytes of them, and since when the oldest."""

    facts: int
    bytes: int
    oldest_at: datetime | None


class Outbox:
    """The outbox in the file `path`, of the gateway `gateway`; made when absent.

    A file that is corrupt is renamed, reported in the log and in `set_aside`, and a new one is made. OutboxError where
    another process has the file, it is of another format, or the disk refuses.
    """

    def __init__(self, path: Path, gateway: str) -> None:
        self.path = path
        self.gateway = gateway
        self.set_aside: Path | None = None
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._reserve = path.with_name(path.name + ".reserve")
        self._held = _hold(path.with_name(path.name + ".lock"))
        try:
            self._db = self._open()
            self.id = str(self._db.execute("SELECT outbox FROM about").fetchone()[0])
        except BaseException:
            self._held.close()
            raise

    def put(self, facts: Iterable[AnyFact], now: datetime, done: Iterable[tuple[str, date]] = ()) -> None:
        """Store the facts, committed at `now`, and that these (meter, Gas Day) are done: all of it, or OutboxError and none.

        Readings get this gateway, this outbox and their sequence. The instant is kept to the millisecond, as Kafka does.
        ValueError for a fact too large for a frame.
        """
        committed_us = to_us(now) // 1000 * 1000
        self._keep_reserve()
        with self._transaction() as db:
            for fact in facts:
                point = meter_point_of(fact)
                if isinstance(fact, Readings):
                    fact = self._numbered(db, fact)
                packed = encode_fact(fact)
                if len(packed) > FACT_BYTES_MAX:
                    raise ValueError(f"a fact of {len(packed)} bytes; allowed: at most {FACT_BYTES_MAX}")
                db.execute(
                    "INSERT INTO facts (meter_point, committed_us, packed) VALUES (?, ?, ?)", (point, committed_us, packed)
                )
            days = [(meter, day.toordinal()) for meter, day in done]
            db.executemany("INSERT OR IGNORE INTO done (meter, gas_day) VALUES (?, ?)", days)
        for listener in self._listeners:
            listener()

    def pending(self, limit: int, after: int = 0) -> list[StoredFact]:
        """The oldest facts that are not acknowledged, in the order they were put: at most `limit`, with ids above `after`."""
        query = "SELECT id, committed_us, packed FROM facts WHERE id > ? ORDER BY id LIMIT ?"
        with self._reading() as db:
            rows = db.execute(query, (after, limit)).fetchall()
        return [StoredFact(number, to_datetime(us), decode_fact(packed), len(packed)) for number, us, packed in rows]

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
        query = "SELECT count(*), coalesce(sum(length(packed)), 0), min(committed_us) FROM facts"
        with self._reading() as db:
            count, size, oldest_us = db.execute(query).fetchone()
        return Backlog(count, size, None if oldest_us is None else to_datetime(oldest_us))

    def done_days(self, meter: str, since: date = date.min) -> set[date]:
        """The Gas Days from `since` on that are done for the meter."""
        query = "SELECT gas_day FROM done WHERE meter = ? AND gas_day >= ?"
        with self._reading() as db:
            return {date.fromordinal(day) for (day,) in db.execute(query, (meter, since.toordinal()))}

    def on_put(self, listener: Callable[[], None]) -> None:
        """`listener` is called, in the putting thread, after every `put`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._db.close()
            self._held.close()

    def _delete(self, numbers: list[tuple[int]]) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM facts WHERE id = ?", numbers)

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
                raise OutboxFull(_FULL.format(path=self.path)) from error
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
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _CORRUPT:
                raise _explained(error, self.path) from error
            self._set_aside(str(error))
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error

    def _set_aside(self, reason: str) -> None:
        self.set_aside = self.path.with_name(f"{self.path.name}.corrupt-{secrets.token_hex(4)}")
        self.path.rename(self.set_aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(f"{self.set_aside}{suffix}")
        log.error("outbox %s is corrupt (%s): set aside as %s; a new one is made", self.path, reason, self.set_aside.name)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise _explained(error, self.path) from error


def _connect(path: Path) -> sqlite3.Connection:
    """A checked connection; sqlite3.DatabaseError where the file is damaged."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive: no shared-memory file, which a full disk could not hold.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            damaged = sqlite3.DatabaseError(verdict)
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damaged
        _make_or_check(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _make_or_check(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        outbox = secrets.token_hex(8)
        db.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} INSERT INTO about VALUES ('{outbox}'); PRAGMA user_version = {FORMAT}; COMMIT;"
        )
    elif version != FORMAT:
        raise OutboxError(f"{path}: outbox of format {version}; this program knows format {FORMAT}")


def _hold(path: Path) -> IO[bytes]:
    """The lock that one process has at a time; it ends with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.open("ab")
    except OSError as error:
        raise OutboxError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise OutboxError(f"{path}: another process uses this outbox") from error
    return held


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the error comes from the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _explained(error: sqlite3.Error, path: Path) -> OutboxError:
    if _code(error) == sqlite3.SQLITE_FULL or _is_disk_full(path):
        return OutboxFull(_FULL.format(path=path))
    return OutboxError(f"{path}: {error}")


def _is_disk_full(path: Path) -> bool:
    """SQLite reports some failures of a full disk as plain input/output errors."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < 64 * 1024
