"""Reads a meter by IEC 62056-21: its clock, and what it has of the time between two instants, the Day's boundaries.

From its own log where it has one: `P.01(from;to)`, or an archive of the LIS200 series. From a meter without a log, what
stands in its readout with a time of its own (`iec62056_21_readout.py`). What fails has failed with a cause, and no reading
comes of it.

The meter's own index, where the equipment reads it (an encoder, or the convertor's own), is a further channel of the profile,
`reference_code`: its values at both ends of the range are the `reference_index`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_clock import DATE, TIME, clock_offset_s, date_and_time, offset_s
from collectors.iec62056_21_data import STATUS_BITS, Row, data_sets, profile_rows
from collectors.iec62056_21_lis200 import archive_read, archive_rows
from collectors.iec62056_21_messages import Read
from collectors.iec62056_21_readout import Codes, one_value, readout_rows
from collectors.iec62056_21_session import Iec62056Meter, RefusedBy, Session, Timing, in_session
from collectors.reading import DayReadings, PollError
from collectors.serial_port import CharacterLine
from metering.facts import ReferenceIndex, Status
from metering.gasday import GasDays, to_us

STANDARD = Timing()
GAS_DAYS = GasDays()
NO_ROWS = "ERROR"  # P.01(ERROR): the log has nothing of that time; what a meter will not do it refuses with a number, ER03


async def read_day(
    line: CharacterLine,
    meter: Iec62056Meter,
    first: datetime,
    last: datetime,
    now: Callable[[], datetime],
    timing: Timing = STANDARD,
) -> DayReadings:
    """What the meter has of [first, last], the Day's boundaries; one session. PollError where the meter does not say.

    A log without any row there is an answer too: every reading is missing. `now`: the gateway's clock, against which
    the meter's is measured. Hold the line's lock.
    """
    if meter.log == "readout":
        reads_out = partial(_read_out, first=first, last=last, now=now)
        return await in_session(line, meter, timing, reads_out, in_programming_mode=False)

    async def from_log(session: Session) -> DayReadings:
        ahead_s = await clock_offset_s(session, now)
        rows = await (_archive(session, first, last) if meter.log == "lis200" else _profile(session, first, last))
        return day_readings(meter, first, last, rows, ahead_s)

    return await in_session(line, meter, timing, from_log)


async def _profile(session: Session, first: datetime, last: datetime) -> list[Row]:
    meter = session.meter
    stamps = ";".join(meter.time.stamp(instant) for instant in (first, last))
    try:
        blocks = await session.blocks(Read("P.01", stamps, meter.partial_blocks, meter.formatted))
    except RefusedBy as refusal:
        if refusal.text == NO_ROWS:
            return []
        raise
    return profile_rows("".join(blocks), meter.time)


async def _archive(session: Session, first: datetime, last: datetime) -> list[Row]:
    archive, time = session.meter.archive, session.meter.time
    assert archive is not None
    try:
        blocks = await session.blocks(archive_read(archive, time, first, last))
    except RefusedBy as refusal:
        if refusal.text == archive.nothing:
            return []
        raise
    return archive_rows(blocks, archive, time)


async def _read_out(session: Session, first: datetime, last: datetime, now: Callable[[], datetime]) -> DayReadings:
    meter = session.meter
    sets = list(data_sets(await session.readout()))
    at, ahead_s = now(), None
    date, time = one_value(sets, DATE), one_value(sets, TIME)
    if date is not None and time is not None:
        ahead_s = offset_s(meter, *date_and_time(date, time), at)
    present_at = at if ahead_s is None else at + timedelta(seconds=ahead_s)
    codes = (meter.index_code, meter.unconverted_code, meter.reference_code)
    known = Codes(tuple(code for code in codes if code is not None), meter.index_code, meter.stored_code)
    rows = readout_rows(sets, known, meter.time, present_at)
    if GAS_DAYS.day_of(to_us(present_at)) == GAS_DAYS.day_of(to_us(last) - 1):
        last = max(last, present_at)  # of a Day that lasts, up to now, though its last whole interval ended before
    if not any(first <= row.at <= last for row in rows):
        said = ", ".join(row.at.isoformat(timespec="seconds") for row in rows) or "no index at all"
        raise PollError(meter.site, f"readout: nothing of {first.isoformat()} to {last.isoformat()}; it has {said}")
    return day_readings(meter, first, last, rows, ahead_s)


def day_readings(
    meter: Iec62056Meter, first: datetime, last: datetime, rows: Sequence[Row], clock_offset_s: float | None
) -> DayReadings:
    """The rows within [first, last] as readings; instants without a row at which the log should have one are missing readings.

    PollError where there are rows and none has the index's channel; Malformed where a value is not whole ticks.
    """
    by_instant = {row.at: row for row in rows if first <= row.at <= last}
    due = (first,) if meter.log == "readout" else _grid(first, last, timedelta(seconds=meter.interval_s))
    at = sorted({last, *by_instant, *due})
    found = {code for row in by_instant.values() for code in row.values}
    if by_instant and found.isdisjoint(_names(meter.index_code)):
        said = f"no index {meter.index_code} in it; it has in m³: {', '.join(sorted(found)) or 'nothing'}"
        raise PollError(meter.site, f"{meter.log} from {first.isoformat()} to {last.isoformat()}: {said}")
    unconverted = reference = None
    if meter.unconverted_code is not None and meter.unconverted_m3_per_tick is not None:
        unconverted = _ticks(at, by_instant, meter.unconverted_code, meter.unconverted_m3_per_tick)
    if meter.reference_code is not None:
        reference = _ticks(at, by_instant, meter.reference_code, meter.m3_per_tick)
    return DayReadings(
        at=tuple(at),
        index=_ticks(at, by_instant, meter.index_code, meter.m3_per_tick) or (None,) * len(at),
        unconverted=unconverted,
        reference_index=_reference(reference),
        status=_statuses(by_instant.values()),
        clock_offset_s=clock_offset_s,
    )


def _grid(first: datetime, last: datetime, interval: timedelta) -> Iterator[datetime]:
    while first < last:
        yield first
        first += interval


def _ticks(
    at: Sequence[datetime], rows: Mapping[datetime, Row], code: str, m3_per_tick: Decimal
) -> tuple[int | None, ...] | None:
    """A channel's values in ticks, None where one is missing; None where all are."""
    values = [_value_of(rows[instant], code) if instant in rows else None for instant in at]
    if all(value is None for value in values):
        return None
    return tuple(None if value is None else _whole_ticks(value, m3_per_tick) for value in values)


def _value_of(row: Row, code: str) -> Decimal | None:
    return next((row.values[name] for name in _names(code) if name in row.values), None)


def _names(code: str) -> tuple[str, str]:
    """A channel's code as a meter may write it: with or without the group before the colon."""
    return code, code.rpartition(":")[2]


def _whole_ticks(value_m3: Decimal, m3_per_tick: Decimal) -> int:
    ticks, rest = divmod(value_m3, m3_per_tick)
    if rest:
        raise Malformed(f"{value_m3} m³ is not whole ticks of {m3_per_tick} m³")
    return int(ticks)


def _reference(ticks: Sequence[int | None] | None) -> ReferenceIndex | None:
    if ticks is None or ticks[0] is None or ticks[-1] is None:
        return None
    return ReferenceIndex(start=ticks[0], end=ticks[-1])


def _statuses(rows: Iterable[Row]) -> tuple[Status, ...]:
    said = {status for row in rows for status in row.status}
    return tuple(status for _, status in STATUS_BITS if status in said)
