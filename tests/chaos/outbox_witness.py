"""What the gateway has acknowledged to itself: every fact that ever left its outbox, noted by the outbox's own file.

A trigger copies each fact as it is deleted, in the transaction that deletes it, so nothing can leave without a trace.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from collectors.outbox import Outbox
from metering.facts import AnyFact
from metering.wire import decode_fact

_WITNESS = """
CREATE TABLE gone (packed BLOB NOT NULL);
CREATE TRIGGER gone AFTER DELETE ON facts BEGIN INSERT INTO gone VALUES (old.packed); END;
"""


def place_witness(outbox: Path, gateway: str) -> None:
    """Make the outbox, before the gateway does, with the trigger."""
    Outbox(outbox, gateway).close()
    with closing(sqlite3.connect(outbox)) as db:
        db.executescript(_WITNESS)


def left_and_left_over(outbox: Path) -> tuple[list[AnyFact], int]:
    """All facts that left it, and how many are still in it."""
    with closing(sqlite3.connect(outbox)) as db:
        gone = [decode_fact(packed) for (packed,) in db.execute("SELECT packed FROM gone")]
        (waiting,) = db.execute("SELECT count(*) FROM facts").fetchone()
    return gone, waiting
