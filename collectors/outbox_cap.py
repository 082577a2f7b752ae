"""The outbox's cap, and what goes where it is reached. No loss is silent.

First go reports (failed polls, how the gateway is); then interval readings; last boundary readings, on which Days' volumes
rest: of each the oldest Gas Day first. Everything else stays, and where only that is left nothing more is taken in. What
went is counted by meter point, meter and Gas Day in the transaction in which it goes, and a `given_up` fact in the same
transaction says how much of that Day has gone so far. These facts do not count against the cap: of a Day there is one.

For their age only reports and interval readings go. A boundary reading is worth its few bytes however late it comes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import msgspec

from metering.facts import AnyFact, GatewayStatus, GivenUp, PollFailed, Readings
from metering.gasday import SECOND_US, GasDays, to_us
from metering.wire import NOT_A_FACT, decode_fact, encode_fact

REPORT, INTERVAL, BOUNDARY, STAYS, LOSS = range(5)  # in this order facts go; the last two never do
HOUR_US = 3600 * SECOND_US
ROOM = 0.5  # of the cap: below it meters are asked again for what was given up
_AT_A_TIME = 100


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes of facts may wait, and how long interval readings and reports may; null: without end."""

    max_bytes: int | None = None
    max_hours: float | None = None

    def words(self) -> str:
        """The cap as the log and the facts say it."""
        return " and ".join(
            f"{limit:,} {unit}" for limit, unit in ((self.max_bytes, "bytes"), (self.max_hours, "hours")) if limit is not None
        )


class Key(NamedTuple):
    """Of what readings were given up."""

    meter_point: str
    meter: str
    gas_day: date


class Loss:
    """What one transaction gives up: readings by meter and Day, and how many reports."""

    def __init__(self) -> None:
        self.readings: Counter[Key] = Counter()
        self.reports = 0

    def __bool__(self) -> bool:
        return bool(self.readings or self.reports)


class CannotGiveUp(Exception):
    """The cap is reached, and nothing is left that may go."""


def stored_fact(packed: bytes) -> AnyFact | None:
    """A fact of the file; None where this program cannot read it."""
    try:
        return decode_fact(packed)
    except NOT_A_FACT:
        return None


def class_of(fact: AnyFact, days: GasDays, committed_us: int) -> tuple[int, int]:
    """In which class a fact goes, and its Gas Day (ordinal), by which the oldest of a class is found."""
    match fact:
        case Readings():
            has_interval_readings = any(value is not None for value, keep in _kept(fact, days) if not keep)
            return INTERVAL if has_interval_readings else BOUNDARY, fact.gas_day.toordinal()
        case PollFailed():
            return REPORT, fact.gas_day.toordinal()
        case GatewayStatus():
            return REPORT, days.day_of(committed_us)
        case GivenUp():
            return LOSS, fact.gas_day.toordinal()
    return STAYS, 0


def thinned(fact: Readings, days: GasDays) -> Readings | None:
    """The fact with its Day's boundary readings alone; None where it has none."""
    keep = [n for n, (value, is_boundary) in enumerate(_kept(fact, days)) if is_boundary and value is not None]
    if not keep:
        return None
    at = tuple(fact.instants())
    return msgspec.structs.replace(
        fact,
        at=tuple(at[n] for n in keep),
        first_at=None,
        interval_s=None,
        index=tuple(fact.index[n] for n in keep),
        unconverted=None if fact.unconverted is None else tuple(fact.unconverted[n] for n in keep),
        interval_m3=None,
    )


def _kept(fact: Readings, days: GasDays) -> Iterator[tuple[object, bool]]:
    """Each entry of `index`, and whether it is at one of the Day's boundaries."""
    day = fact.gas_day.toordinal()
    boundaries = days.start_us(day), days.end_us(day)
    for value, at in zip(fact.index, fact.instants(), strict=True):
        yield value, to_us(at) in boundaries


def give_up_old(db: sqlite3.Connection, cap: Cap, days: GasDays, now_us: int, loss: Loss) -> None:
    """Reports and interval readings that have waited for longer than `max_hours` go."""
    if cap.max_hours is None:
        return
    query = "SELECT id, goes, packed FROM facts WHERE goes <= ? AND committed_us < ? LIMIT ?"
    before_us = now_us - round(cap.max_hours * HOUR_US)
    while rows := db.execute(query, (INTERVAL, before_us, _AT_A_TIME)).fetchall():
        for row in rows:
            _take(db, days, loss, *row)


def give_up_most(db: sqlite3.Connection, cap: Cap, days: GasDays, loss: Loss) -> None:
    """Facts go, in their order, until the rest is within `max_bytes`. CannotGiveUp where that cannot be."""
    if cap.max_bytes is None:
        return
    while held_bytes(db) > cap.max_bytes:
        query = "SELECT id, goes, packed FROM facts WHERE goes <= ? ORDER BY goes, gas_day, id LIMIT ?"
        rows = db.execute(query, (BOUNDARY, _AT_A_TIME)).fetchall()
        if not rows:
            raise CannotGiveUp
        for row in rows:
            _take(db, days, loss, *row)
            if held_bytes(db) <= cap.max_bytes:
                return


def held_bytes(db: sqlite3.Connection) -> int:
    """The bytes that count against the cap."""
    (held,) = db.execute("SELECT sum(bytes) FROM held WHERE goes < ?", (LOSS,)).fetchone()
    return int(held)


def _take(db: sqlite3.Connection, days: GasDays, loss: Loss, number: int, goes: int, packed: bytes) -> None:
    """One fact goes, or what of it goes first. Its id stays: it may be on its way, and its acknowledgement is as good."""
    fact = stored_fact(packed)
    if not isinstance(fact, Readings):
        loss.reports += 1
        db.execute("DELETE FROM facts WHERE id = ?", (number,))
        return
    rest = thinned(fact, days) if goes == INTERVAL else None
    loss.readings[Key(fact.meter_point, fact.meter, fact.gas_day)] += _count(fact) - (_count(rest) if rest else 0)
    if rest is None:
        db.execute("DELETE FROM facts WHERE id = ?", (number,))
    else:
        db.execute("UPDATE facts SET goes = ?, packed = ? WHERE id = ?", (BOUNDARY, encode_fact(rest), number))


def _count(fact: Readings) -> int:
    return sum(value is not None for value in fact.index)


def record(db: sqlite3.Connection, loss: Loss, cap: Cap, committed_us: int) -> None:
    """Count what goes, and put the facts that say so in the place of those that said less."""
    db.execute("UPDATE about SET reports_given_up = reports_given_up + ?", (loss.reports,))
    for key, readings in loss.readings.items():
        row = key.meter_point, key.meter, key.gas_day.toordinal()
        so_far, said_by = db.execute(
            "INSERT INTO given_up VALUES (?, ?, ?, ?, 1, NULL) ON CONFLICT DO UPDATE SET"
            " readings = readings + excluded.readings, to_ask = 1 RETURNING readings, fact",
            (*row, readings),
        ).fetchone()
        fact = GivenUp(**key._asdict(), readings=so_far, reason=f"its cap: {cap.words()}")
        db.execute("DELETE FROM facts WHERE id = ?", (said_by,))
        said_by = db.execute(
            "INSERT INTO facts (meter_point, committed_us, packed, goes, gas_day) VALUES (?, ?, ?, ?, ?)",
            (key.meter_point, committed_us, encode_fact(fact), LOSS, row[2]),
        ).lastrowid
        db.execute("UPDATE given_up SET fact = ? WHERE (meter_point, meter, gas_day) = (?, ?, ?)", (said_by, *row))
