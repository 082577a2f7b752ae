"""Archives of Elster's LIS200 series: how rows are asked for, and what they say.

`R3` of `3:V.0(position;from;to;rows)`: archive 3, the column by which to choose, the limits, how many rows a block. Each row is
a line of values in parentheses, in the archive's columns. Times are the equipment's, `2026-10-05,06:00:00`, without zone.

Rows are written at each interval's end, and at events. A time without zone that comes twice, in autumn or when the clock is
set back, means the later instant where the row stands behind others; of two rows of one instant the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import get_args

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import ROWS_MAX, MeterTime, Row, data_sets, m3_with_unit
from collectors.iec62056_21_messages import Read
from collectors.profile_maps import Archive
from metering.facts import Status

TIME_FORM = "%Y-%m-%d,%H:%M:%S"
ROW_IS_GOOD = "crc ok"
_TIME = re.compile(r"(20\d\d)-(\d{1,2})-(\d{1,2}), ?(\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)


def archive_read(archive: Archive, time: MeterTime, first: datetime, last: datetime) -> Read:
    """What asks for the rows in [first, last]."""
    limits = ";".join(time.shown(instant).strftime(TIME_FORM) for instant in (first, last))
    argument = f"{archive.time_column};{limits};{archive.rows}"
    return Read(f"{archive.number}:V.0", argument, partial=True, formatted=False)


def time_shown(text: str) -> datetime:
    """A time as LIS200 writes it, without zone; Malformed where it is none."""
    found = _TIME.fullmatch(text)
    try:
        if found is not None:
            return datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError as error:
        raise Malformed(f"time {text[:20]!r}: {error}") from error
    raise Malformed(f"time {text[:20]!r}; allowed: as 2026-10-05,06:00:00")


def archive_rows(blocks: Sequence[str], archive: Archive, time: MeterTime) -> list[Row]:
    """The rows in the blocks of an answer, in the order of their instants; Malformed where they are none."""
    rows: dict[datetime, Row] = {}
    before: datetime | None = None
    for count, values in enumerate(_lines(blocks)):
        if count == ROWS_MAX:
            raise Malformed(f"more than {ROWS_MAX} rows")
        instants = time.instants("", time_shown(_column(values, archive.time_column)))
        at = next((instant for instant in instants if before is None or instant > before), instants[-1])
        before = at
        rows.setdefault(at, _row(at, values, archive))
    return sorted(rows.values(), key=lambda row: row.at)


def _lines(blocks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for block in blocks:
        for line in block.splitlines():
            for data_set in data_sets(line):
                yield data_set.values


def _row(at: datetime, values: tuple[str, ...], archive: Archive) -> Row:
    checked = archive.check_column is None or _column(values, archive.check_column).lower() == ROW_IS_GOOD
    found = {code: m3_with_unit(_column(values, place)) if checked else None for code, place in archive.columns.items()}
    return Row(at, _statuses(values, archive), found)


def _statuses(values: tuple[str, ...], archive: Archive) -> tuple[Status, ...]:
    if archive.status_column is None:
        return ()
    said = {archive.messages.get(number) for number in re.split("[;, ]+", _column(values, archive.status_column))}
    return tuple(status for status in get_args(Status) if status in said)


def _column(values: tuple[str, ...], place: int) -> str:
    if place > len(values):
        raise Malformed(f"a row of {len(values)} columns, where {place} are due")
    return values[place - 1]
