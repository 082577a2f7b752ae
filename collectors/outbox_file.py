"""The outbox's file: its tables, how it is opened, checked and brought up to this format, and what its errors mean.

`held` is kept by triggers, so how much waits is known without counting it, and is right whatever a transaction does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from pathlib import Path
from typing import IO

from collectors.outbox_cap import LOSS, STAYS, class_of, stored_fact
from metering.gasday import GasDays

FORMAT = 2
DISK_FULL = "{path}: the disk is full, nothing was stored; what was stored before stays readable"
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA_1 = """
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
# What the cap needs: in which order facts go, how much waits of each class, and what was given up so far.
_SCHEMA_2 = f"""
ALTER TABLE about ADD COLUMN reports_given_up INTEGER NOT NULL DEFAULT 0;
ALTER TABLE facts ADD COLUMN goes INTEGER NOT NULL DEFAULT {STAYS};
ALTER TABLE facts ADD COLUMN gas_day INTEGER NOT NULL DEFAULT 0;
CREATE INDEX first_to_go ON facts (goes, gas_day, id);
CREATE TABLE held (goes INTEGER PRIMARY KEY, facts INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO held VALUES {", ".join(f"({goes}, 0, 0)" for goes in range(LOSS + 1))};
UPDATE held SET (facts, bytes) = (SELECT count(*), coalesce(sum(length(packed)), 0) FROM facts) WHERE goes = {STAYS};
CREATE TRIGGER added AFTER INSERT ON facts BEGIN
    UPDATE held SET facts = facts + 1, bytes = bytes + length(new.packed) WHERE goes = new.goes;
END;
CREATE TRIGGER removed AFTER DELETE ON facts BEGIN
    UPDATE held SET facts = facts - 1, bytes = bytes - length(old.packed) WHERE goes = old.goes;
END;
CREATE TRIGGER changed AFTER UPDATE ON facts BEGIN
    UPDATE held SET facts = facts - 1, bytes = bytes - length(old.packed) WHERE goes = old.goes;
    UPDATE held SET facts = facts + 1, bytes = bytes + length(new.packed) WHERE goes = new.goes;
END;
CREATE TABLE given_up (
    meter_point TEXT,
    meter TEXT,
    gas_day INTEGER,
    readings INTEGER NOT NULL,  -- so far
    to_ask INTEGER NOT NULL,    -- 1 until the meter is to be asked again
    fact INTEGER,               -- the id of the fact that says so
    PRIMARY KEY (meter_point, meter, gas_day)
) WITHOUT ROWID;
"""
# Which alarms of which meter have been told, and of which Gas Days. No format of its own: a program of before, to which a
# failed update goes back, leaves the table alone.
_ALARMS = """
CREATE TABLE IF NOT EXISTS alarms (
    meter TEXT, kind TEXT, gas_day INTEGER, PRIMARY KEY (meter, kind, gas_day)
) WITHOUT ROWID
"""


class OutboxError(Exception):
    """The outbox cannot be used; the message says why."""


class OutboxInUse(OutboxError):
    """Another process has it: a gateway runs."""


class OutboxFull(OutboxError):
    """The disk is full, or the cap is reached and nothing more may be given up: nothing was put. What is stored stays."""


def connect(path: Path, days: GasDays) -> sqlite3.Connection:
    """A checked connection to a file of this format; sqlite3.DatabaseError where the file is damaged."""
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
        _make_or_check(db, path, days)
        db.execute(_ALARMS)
    except BaseException:
        db.close()
        raise
    return db


def _make_or_check(db: sqlite3.Connection, path: Path, days: GasDays) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise OutboxError(f"{path}: outbox of format {version}; this program knows format {FORMAT}")
    if version == 0:
        outbox = secrets.token_hex(8)
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA_1} INSERT INTO about VALUES ('{outbox}');")
    elif version == 1:
        db.execute("BEGIN IMMEDIATE")
    if version < FORMAT:
        _to_format_2(db, days)


def _to_format_2(db: sqlite3.Connection, days: GasDays) -> None:
    """In the transaction that has begun, which this ends: `executescript` would commit it, were there no BEGIN inside."""
    for statement in _statements(_SCHEMA_2):
        db.execute(statement)
    last = 0
    query = "SELECT id, committed_us, packed FROM facts WHERE id > ? ORDER BY id LIMIT 1000"
    while rows := db.execute(query, (last,)).fetchall():  # it may be more than the memory holds
        for last, committed_us, packed in rows:
            if (fact := stored_fact(packed)) is not None:
                goes, gas_day = class_of(fact, days, committed_us)
                db.execute("UPDATE facts SET goes = ?, gas_day = ? WHERE id = ?", (goes, gas_day, last))
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")


def _statements(script: str) -> list[str]:
    found, so_far = [], ""
    for line in script.splitlines(keepends=True):
        so_far += line
        if sqlite3.complete_statement(so_far):
            found.append(so_far)
            so_far = ""
    return found


def hold(path: Path) -> IO[bytes]:
    """The lock that one process has at a time; it ends with the process."""
    try:
        _make_folder(path.parent)
        held = path.open("ab")
    except OSError as error:
        raise OutboxError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise OutboxInUse(f"{path}: another process uses this outbox") from error
    return held


def _make_folder(folder: Path) -> None:
    """Where it is missing, so that it is still there after a power cut: SQLite syncs the folder itself, not those above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    above = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is damaged."""
    return _code(error) in _CORRUPT


def explained(error: sqlite3.Error, path: Path) -> OutboxError:
    """The error as the outbox's own."""
    if _code(error) == sqlite3.SQLITE_FULL or _is_disk_full(path):
        return OutboxFull(DISK_FULL.format(path=path))
    return OutboxError(f"{path}: {error}")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the error comes from the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_disk_full(path: Path) -> bool:
    """SQLite reports some failures of a full disk as plain input/output errors."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < 64 * 1024
