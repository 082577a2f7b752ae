"""Opening an SQLite file of ours: write-ahead log, a version inside, errors that name the file and say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal


class StoreError(Exception):
    """A store's file cannot be used; the message names it and what to do."""


def open_database(
    path: Path, schema: str, version: int, synchronous: Literal["NORMAL", "FULL"], exclusive: bool = False
) -> sqlite3.Connection:
    """The database at `path`, made with `schema` where there is none. Transactions are the caller's, none is implicit.

    What is committed survives the end of the process; a power cut too with FULL. With `exclusive` no other process can
    use the file until this one closes it or ends. Raises StoreError where the file is of another version, is no
    database of ours, is in use, or cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=1 if exclusive else 30, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: cannot be opened: {error}") from error
    try:
        if exclusive:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        _make(db, path, schema, version)
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StoreError(f"{path}: in use by another process") from error
        raise StoreError(f"{path}: cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise StoreError(f"{path}: cannot be read as SQLite: {error}; remove it, and it is made again") from error
    except StoreError:
        db.close()
        raise
    return db


def read_database(path: Path, version: int) -> sqlite3.Connection:
    """The database at `path` for reading alone, beside whoever writes it. Raises StoreError where there is none of ours."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=30, isolation_level=None, uri=True)
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    if found != version:
        db.close()
        raise StoreError(f"{path}: of version {found}, and this program reads version {version}")
    return db


def _make(db: sqlite3.Connection, path: Path, schema: str, version: int) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if found == version and not empty:
            return
        if not empty:
            raise StoreError(
                f"{path}: of version {found}, and this program reads version {version}; remove it, and it is made again"
            )
        for statement in schema.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
