"""What a meter without a log can honestly say of a Day: what stands in its readout with a time of its own.

Stored values, where the meter has any (`7-0:13.26.0*01(value)(time)`, *01 the latest): each is a reading of its own time.
The present value is a reading of the time that the meter's clock shows beside it, or where it has none, of the time at which
it came. No reading is moved to a boundary of the Day: one that was taken at 05:03 is one of 05:03.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import DataSet, MeterTime, Row, m3_with_unit, split_stamp

_STORED = re.compile(r"(.*?)[*&](\d{1,3})", re.ASCII)
_SEPARATORS = re.compile("[-:., ]")


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of what is read: of present values, and of the index as stored with times."""

    present: tuple[str, ...]
    index: str
    stored: str | None


def readout_rows(sets: Sequence[DataSet], codes: Codes, time: MeterTime, present_at: datetime) -> list[Row]:
    """The readings in a readout, in the order of their instants; Malformed where a value or a time is none."""
    rows = {row.at: row for row in _stored(sets, codes, time)}
    found: dict[str, Decimal | None] = {code: value for code in codes.present if (value := _value(sets, code)) is not None}
    if found:
        rows.setdefault(present_at, Row(present_at, (), found))
    return sorted(rows.values(), key=lambda row: row.at)


def one_value(sets: Sequence[DataSet], code: str) -> str | None:
    """The text of the data set of this code, which may leave out the group before the colon; None where there is none."""
    names = code, code.rpartition(":")[2]
    return next((each.values[0] for each in sets if each.code in names and len(each.values) == 1), None)


def _value(sets: Sequence[DataSet], code: str) -> Decimal | None:
    text = one_value(sets, code)
    return None if text is None else m3_with_unit(text)


def _stored(sets: Sequence[DataSet], codes: Codes, time: MeterTime) -> Iterator[Row]:
    for each in sets:
        found = _STORED.fullmatch(each.code)
        if codes.stored is None or found is None or found[1] not in (codes.stored, codes.stored.rpartition(":")[2]):
            continue
        if len(each.values) != 2:
            raise Malformed(f"{each.code[:24]!r} with {len(each.values)} values; allowed: a value and its time")
        instants = time.instants(*split_stamp(_SEPARATORS.sub("", each.values[1])))
        if len(instants) == 1:  # of an hour that comes twice nobody knows which is meant
            yield Row(instants[0], (), {codes.index: m3_with_unit(each.values[0])})
