"""Facts and records as JSON Lines: reading with an error that names the line, and writing in a fixed order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from dailyread.mistakes import mistake
from metering.facts import AnyFact, Fact
from metering.ledger import AnyRecord, Performance

_decode_fact = msgspec.json.Decoder(AnyFact).decode
_encode = msgspec.json.Encoder(decimal_format="string").encode


class BadLine(NamedTuple):
    """A line that is not a fact: its number (from 1), and what is wrong with it."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


def read_facts(lines: Iterable[bytes], *, received: bool = True) -> Iterator[AnyFact | BadLine]:
    """The facts of these lines; a BadLine for each that is none. Empty lines are passed over.

    With `received`, a fact must say when it was received.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fact: AnyFact = _decode_fact(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield BadLine(number, mistake(line, error))
            continue
        if received and fact.received_at is None:
            yield BadLine(number, "received_at: missing; an RFC 3339 instant with an offset is needed")
        elif fact.received_at is not None and not 1970 <= fact.received_at.year < 2200:
            yield BadLine(number, f"received_at: {fact.received_at.isoformat()} is not in the years 1970 to 2199")
        else:
            yield fact


def write_fact(fact: Fact) -> bytes:
    """A fact as one line, without its end."""
    return _encode(fact)


def write_record(record: AnyRecord | Performance) -> bytes:
    """A ledger record as one line, without its end: keys in the order of the record's fields, instants in UTC."""
    return _encode(record)


def in_order(records: Iterable[AnyRecord | Performance]) -> Iterator[bytes]:
    """The records as lines, sorted by record, meter point, Gas Day, user, month, kind, and then the whole line."""
    by_point: defaultdict[tuple[str, ...], list[AnyRecord | Performance]] = defaultdict(list)
    for record in records:
        by_point[_sort_key(record, "meter_point")].append(record)
    for key in sorted(by_point):  # a year's lines all at once would take as much memory as its records
        lines = [(_sort_key(record, "gas_day", "user", "month", "kind"), write_record(record)) for record in by_point[key]]
        yield from (line for _, line in sorted(lines))


def _sort_key(record: AnyRecord | Performance, *fields: str) -> tuple[str, ...]:
    values = (getattr(record, field, UNSET) for field in fields)
    return (str(record.__struct_config__.tag), *("" if value is UNSET else str(value) for value in values))
