"""A ledger as `dailyread replay` prints it: JSON Lines, one record a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

import msgspec

from metering.ledger import AnyRecord, Performance

YEARS = range(1900, 2200)
MAGNITUDE_MAX = Decimal(10) ** 15
_DECODER = msgspec.json.Decoder(AnyRecord | Performance)


@dataclass(slots=True)
class Ledger:
    """The records of the lines that are records, those of Users and months apart; of the others, the line's number from 1 and
    what is wrong with it."""

    records: list[AnyRecord] = field(default_factory=list)
    performance: list[Performance] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)


def read_ledger(lines: Iterable[bytes]) -> Ledger:
    """Read records line by line; empty lines are passed over, and a bad line spoils no other. So are records of performance:
    they are sums, and only facts tell of what."""
    ledger = Ledger()
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _DECODER.decode(line)
            _check(record)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            ledger.bad.append((n, str(error)))
        else:
            if isinstance(record, Performance):
                ledger.performance.append(record)
            else:
                ledger.records.append(record)
    return ledger


def _check(record: AnyRecord | Performance) -> None:
    """What the types alone do not say: instants have an offset, numbers are numbers, and all of it can be shown."""
    record.key()  # an index may be nested too deeply to be written
    for name in record.__struct_fields__:
        value = getattr(record, name)
        match value:
            case datetime() if value.tzinfo is None:
                raise ValueError(f"{name}: {value.isoformat()} has no offset from UTC")
            case date() if value.year not in YEARS:
                raise ValueError(f"{name}: {value.isoformat()} is not within {YEARS[0]} to {YEARS[-1]}")
            case Decimal() if not value.is_finite() or abs(value) >= MAGNITUDE_MAX:
                raise ValueError(f"{name}: {value:.3E} is not a number below 10^15")
            case _:
                pass
