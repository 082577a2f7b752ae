"""The stream job without Kafka: one partition in this process, its facts in RocksDB, its states and ledger in SQLite.

The same processor, rules and records as the Faust worker's. The order is the same, too: facts are on disk first, then the
ledger, then the states. Where a start finds facts that the states do not rest on, all points are made anew from the facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from metering.facts import AnyFact, Registered
from metering.gasday import to_us
from metering.ledger import Change, Void
from metering.messages import DeadLetter, LedgerMessage
from metering.replay import point_ledger
from metering.rules import Rules
from metering.state import prune
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from storage.ledger_sqlite import SqliteLedgerStore
from storage.sqlite import open_database
from stream.marks import LaterStates, Marks, OtherRules
from stream.processor import Processor, Slice

PARTITION = 0
_SCHEMA = """
CREATE TABLE state (meter_point TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE position (done INTEGER NOT NULL);
INSERT INTO position VALUES (0);
"""


class Frame(NamedTuple):
    """A message as it would stand on the facts or the broadcast topic, and when it was appended."""

    timestamp: datetime
    value: bytes


class EmbeddedJob:
    """Takes frames, keeps the ledger. `directory` is made where it is missing; StoreError where its files cannot be used.

    OtherRules where its states were made under other rules, LaterStates where a later version made them; with `rebuild` they
    are made anew, as those of an earlier version are without it.
    """

    def __init__(self, directory: Path, rules: Rules, rebuild: bool = False) -> None:
        self.rules = rules
        self.facts = RocksFactStore(fact_store_path(directory, PARTITION))
        self.ledger = SqliteLedgerStore(directory / "ledger.sqlite")
        self.dead: list[DeadLetter] = []
        self.records = 0
        self._db = open_database(directory / "states.sqlite", _SCHEMA, version=1, synchronous="FULL", exclusive=True)
        self._states: dict[str, bytes] = dict(self._db.execute("SELECT meter_point, value FROM state"))
        done: int = self._db.execute("SELECT done FROM position").fetchone()[0]
        self._offset = self.facts.next_offset()
        if rebuild:
            self._states.clear()
        try:
            self._processor = Processor(PARTITION, self.facts, self._states, rules)
        except (OtherRules, LaterStates):
            self.close()
            raise
        if rebuild or done != self._offset or self._processor.has_others:
            self._remake()
            self._processor = Processor(PARTITION, self.facts, self._states, rules)

    def take(self, frames: Iterable[Frame]) -> None:
        """Append the frames and do what follows from them; it survives the end of the process when this returns.

        A power cut may take the latest facts, as it may from a worker's fact store; but here no topic has them still.
        """
        messages: list[LedgerMessage] = []
        states: dict[str, bytes] = {}
        for frame in frames:
            for part in self._processor.process(self._offset, frame.timestamp, frame.value):
                messages += [LedgerMessage.of(change, PARTITION, self._offset) for change in part.changes]
                self._take_slice(part, states)
            self._offset += 1
        self.records += len(messages)
        self.ledger.write(messages)
        self._write(states)

    def close(self) -> None:
        """Close the files."""
        self.facts.close()
        self.ledger.close()
        self._db.close()

    def _take_slice(self, part: Slice, states: dict[str, bytes]) -> None:
        self._states |= part.states
        states |= part.states
        self.dead += part.dead

    def _write(self, states: dict[str, bytes]) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", states.items())
            self._db.execute("UPDATE position SET done = ?", (self._offset,))

    def _remake(self) -> None:
        """Make every point anew from the facts: the process ended between keeping facts and keeping what follows."""
        days, offset = self.rules.calendar(), self._offset - 1
        marks = Marks(self.rules, days)
        messages: list[LedgerMessage] = []
        states = marks.rules()
        for meter_point in self.facts.points():
            own = self.facts.of_point(meter_point)
            facts: list[AnyFact] = [
                *own, *self.facts.calorific_values({fact.ldz for fact in own if isinstance(fact, Registered)})
            ]  # fmt: skip
            now_us = max(to_us(fact.received_at) for fact in facts if fact.received_at is not None)
            point, ledger = point_ledger(meter_point, facts, now_us, self.rules, days)
            gone = [record.key() for record in self.ledger.records(meter_point) if record.key() not in ledger]
            changes: list[Change] = [*ledger.values(), *(Void(key) for key in gone if key[0] != "day")]
            messages += [LedgerMessage.of(change, PARTITION, offset) for change in changes]
            prune(point)
            states[meter_point] = marks.state(offset, point)
        self._states |= states
        self.ledger.write(messages)
        self._write(states)
