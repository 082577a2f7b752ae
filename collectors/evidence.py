"""Evidence: the octets of each poll that brought readings, by meter and Gas Day, on the gateway's disk.

One SQLite file of its own beside the outbox, so that nothing that happens to it concerns what waits for Kafka. It is bounded:
the oldest polls go first, and that is said. It never stops collecting: what cannot be kept is counted, and said once. It
yields to the outbox, too: where the disk is nearly full nothing is kept.

Another process may read the file while the gateway writes it (`dailyread evidence`).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from collectors.outbox_file import is_damage
from collectors.trace import Frame
from metering.gasday import to_datetime, to_us

log = logging.getLogger(__name__)
FREE_BYTES_MIN = 16 * 1024 * 1024  # of the disk, which are the outbox's
ROW_BYTES = 64  # what a row and its entry in the index take beside the octets
BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS polls (id INTEGER PRIMARY KEY, meter TEXT NOT NULL, gas_day INTEGER NOT NULL, packed BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS of_day ON polls (meter, gas_day);
"""
_FRAMES = msgspec.msgpack.Decoder(tuple[tuple[int, bool, bytes], ...])


@dataclass
class EvidenceCounters:
    """What happened since the start, for metrics. `bytes`: how much is kept now."""

    kept: int = 0
    gone: int = 0  # made room for newer ones
    not_kept: int = 0  # the file or the disk refused
    bytes: int = 0


class EvidenceStore:
    """The evidence in the file `path`, made when absent: at most `max_bytes`, 0 for none. Use from any thread; no method
    raises."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.counters = EvidenceCounters()
        self._path, self._max_bytes = path, max_bytes
        self._lock = threading.Lock()
        self._refused = self._went = False
        self._db: sqlite3.Connection | None = None

    def keep(self, meter: str, gas_day: date, frames: Sequence[Frame]) -> None:
        """Keep what went over the line for that Day. Readers leave no password in their traces."""
        if not self._max_bytes or not frames:
            return
        try:
            packed = pack(frames)
            with self._lock:
                self._keep(meter, gas_day.toordinal(), packed)
        except Exception as error:  # whatever it is: the readings are what counts
            self.counters.not_kept += 1
            self._say_refused(error)
        else:
            self.counters.kept += 1
            self._refused = False

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, suppress(sqlite3.Error):
            if self._db is not None:
                self._db.close()
            self._db = None

    def _keep(self, meter: str, gas_day: int, packed: bytes) -> None:
        if len(packed) + ROW_BYTES > self._max_bytes:
            raise ValueError(f"a poll of {len(packed)} bytes is more than there is room for")
        free = os.statvfs(self._path.parent)
        if free.f_bavail * free.f_frsize < FREE_BYTES_MIN:
            raise OSError("the disk is nearly full")
        try:
            self._write(meter, gas_day, packed)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._set_aside(error)
            self._write(meter, gas_day, packed)

    def _write(self, meter: str, gas_day: int, packed: bytes) -> None:
        db = self._db or self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("INSERT INTO polls (meter, gas_day, packed) VALUES (?, ?, ?)", (meter, gas_day, packed))
            held = self.counters.bytes + len(packed) + ROW_BYTES
            held, gone = self._make_room(db, held)
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self.counters.bytes = held
        self._say_gone(gone)

    def _make_room(self, db: sqlite3.Connection, held: int) -> tuple[int, int]:
        """What is held then, and how many polls went."""
        gone = 0
        while held > self._max_bytes:
            query = "DELETE FROM polls WHERE id = (SELECT min(id) FROM polls) RETURNING length(packed)"
            (length,) = db.execute(query).fetchone()
            held -= length + ROW_BYTES
            gone += 1
        return held, gone

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last polls' evidence, never the file
            db.executescript(_SCHEMA)
            query = f"SELECT coalesce(sum(length(packed) + {ROW_BYTES}), 0) FROM polls"
            (self.counters.bytes,) = db.execute(query).fetchone()
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _set_aside(self, error: sqlite3.Error) -> None:
        """A damaged file makes room for a new one; it stands beside it, in the place of an earlier one."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        aside = self._path.with_name(self._path.name + ".corrupt")
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        log.error("evidence %s is corrupt (%s): set aside as %s; a new one is made", self._path, error, aside.name)

    def _say_gone(self, gone: int) -> None:
        self.counters.gone += gone
        if gone and not self._went:
            log.info("evidence has reached %d bytes: from now on the oldest goes for the newest", self._max_bytes)
            self._went = True

    def _say_refused(self, error: Exception) -> None:
        if not self._refused:
            log.warning("evidence is not kept: %s: %s", self._path, error)
        self._refused = True


def find(path: Path, meter: str, gas_day: date) -> list[tuple[Frame, ...]]:
    """The polls that are kept of a meter's Day, the oldest first. FileNotFoundError; sqlite3.Error or ValueError where
    the file is damaged."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no evidence")
    query = "SELECT packed FROM polls WHERE meter = ? AND gas_day = ? ORDER BY id"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)) as db:
        return [tuple(_unpacked(packed)) for (packed,) in db.execute(query, (meter, gas_day.toordinal()))]


def pack(frames: Sequence[Frame]) -> bytes:
    """The frames as they are kept: compressed MessagePack of (µs since 1970, sent, octets)."""
    return zlib.compress(msgspec.msgpack.encode([(to_us(frame.at), frame.sent, frame.octets) for frame in frames]))


def _unpacked(packed: bytes) -> Iterator[Frame]:
    try:
        frames = _FRAMES.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"damaged evidence: {error}") from error
    for at_us, sent, octets in frames:
        yield Frame(to_datetime(at_us), sent, octets)
