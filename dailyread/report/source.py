"""Where a report's numbers come from: facts, of which the ledger is computed as of any instant, or a ledger alone.

A file in JSON Lines of either kind, a ledger's SQLite file, or the folder of fact stores that a worker or a demo keeps. What
only facts can tell (polls that failed, what performance leaves out) is missing where the source is a ledger.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec

from dailyread.jsonlines import BadLine, read_facts
from dailyread.report.ledger_lines import read_ledger
from dailyread.report.summary import latest_instant
from metering.facts import AnyFact, Registered
from metering.gasday import to_datetime, to_us
from metering.ledger import AnyRecord
from metering.replay import latest_us, replay
from metering.rules import Rules
from storage.fact_store import FACT_STORES, read_fact_store
from storage.ledger_sqlite import SqliteLedgerStore
from storage.sqlite import StoreError

SQLITE_MAGIC = b"SQLite format 3\0"


class SourceError(Exception):
    """The source cannot be read; the message names it and what is wrong."""


@dataclass(slots=True)
class Source:
    """What was read. `facts`, copies and all, is None where the source holds a ledger only; `latest` is the latest instant it
    speaks of, None where it is empty; `bad` are the lines that were nothing, by number."""

    name: str
    facts: list[AnyFact] | None = None
    records: list[AnyRecord] = field(default_factory=list)
    latest: datetime | None = None
    bad: list[tuple[int, str]] = field(default_factory=list)

    def ledger(self, as_of: datetime, rules: Rules) -> list[AnyRecord]:
        """The records as of the instant, computed from the facts; or those that the source holds, of whatever instant."""
        if self.facts is None:
            return self.records
        return list(replay(self.facts, to_us(as_of), rules).values())


class _Tag(msgspec.Struct):
    fact: object = None


_decode_tag = msgspec.json.Decoder(_Tag).decode


def read_source(path: str) -> Source:
    """Read a source; `-` is standard input. Raises SourceError where there is none, or it is nothing of ours."""
    if path == "-":
        return _of_lines(path, sys.stdin.buffer)
    if Path(path).is_dir():
        return _of_fact_stores(Path(path))
    try:
        with open(path, "rb") as file:
            if not file.peek(len(SQLITE_MAGIC)).startswith(SQLITE_MAGIC):
                return _of_lines(path, file)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    return _of_ledger_store(Path(path))


def _of_lines(name: str, lines: Iterable[bytes]) -> Source:
    """Facts or records: the first line that is an object tells which."""
    rest = iter(lines)
    head: list[bytes] = []
    are_facts: bool | None = None
    for line in rest:
        head.append(line)
        if (are_facts := _is_fact(line)) is not None:
            break
    return (_of_facts if are_facts else _of_records)(name, chain(head, rest))


def _is_fact(line: bytes) -> bool | None:
    try:
        return _decode_tag(line).fact is not None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _of_records(name: str, lines: Iterable[bytes]) -> Source:
    ledger = read_ledger(lines)
    return Source(name, records=ledger.records, latest=latest_instant(ledger.records), bad=ledger.bad)


def _of_facts(name: str, lines: Iterable[bytes]) -> Source:
    facts: list[AnyFact] = []
    bad: list[tuple[int, str]] = []
    for item in read_facts(lines):
        if isinstance(item, BadLine):
            bad.append((item.number, item.reason))
        else:
            facts.append(item)
    return _with_facts(name, facts, bad)


def _with_facts(name: str, facts: list[AnyFact], bad: list[tuple[int, str]]) -> Source:
    latest = latest_us(facts)
    return Source(name, facts=facts, latest=None if latest is None else to_datetime(latest), bad=bad)


def _of_ledger_store(path: Path) -> Source:
    """The records that stand in the SQLite file of a store, which may be running."""
    try:
        store = SqliteLedgerStore(path)
        try:
            records = list(store.records())
        finally:
            store.close()
    except (StoreError, sqlite3.Error) as error:
        raise SourceError(f"{path}: is no ledger: {error}") from error
    return Source(str(path), records=records, latest=latest_instant(records))


def _of_fact_stores(folder: Path) -> Source:
    """All facts of the partitions' fact stores in a folder; their workers may be running."""
    paths = sorted(folder.glob(FACT_STORES))
    if not paths:
        raise SourceError(f"{folder}: holds no fact stores ({FACT_STORES})")
    facts: list[AnyFact] = []
    for path in paths:
        try:
            facts += _in_store(path)
        except StoreError as error:
            raise SourceError(str(error)) from error
    return _with_facts(str(folder), facts, [])


def _in_store(path: Path) -> Iterator[AnyFact]:
    store = read_fact_store(path)
    try:
        ldzs: set[str] = set()
        for point in store.points():
            own = store.of_point(point)
            ldzs |= {fact.ldz for fact in own if isinstance(fact, Registered)}
            yield from own
        yield from store.calorific_values(ldzs)
    finally:
        store.close()
