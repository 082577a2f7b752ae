"""One poll: one meter, one Gas Day, and what came of it, as facts for the outbox.

The protocol is a line of a table. A bad answer (wrong check, too short, an exception) is asked for again at once, a few
times; then the poll has failed, with site and cause. A failed poll is never a reading; a missing reading is null.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from collectors.dlms_reader import dlms_line, dlms_reader
from collectors.iec62056_21_reader import iec_line, iec_reader
from collectors.modbus import ModbusMeter
from collectors.modbus_line import BAUD, ModbusLine, modbus_line
from collectors.modbus_maps import register_map
from collectors.reader import Answer, MeterSettings, Reader, Unanswered
from collectors.reading import DayReadings, PollError, as_reason
from collectors.schedule import Outcome
from metering.facts import PollFailed, Readings
from metering.gasday import GasDays, to_datetime

log = logging.getLogger(__name__)
ATTEMPTS = 3


class Polled(NamedTuple):
    """What a poll did for its Day, the fact that says so, and how many readings are in it."""

    outcome: Outcome
    fact: Readings | PollFailed
    readings: int

    @property
    def which(self) -> int | None:
        """By which the readings are known again; None where there are none. Their number is not enough: a meter without a log
        has one at a time, each time another."""
        fact = self.fact
        return hash((fact.at, fact.first_at, fact.index)) if isinstance(fact, Readings) and self.readings else None


def make_readers(meters: Iterable[MeterSettings], timeout_s: float) -> list[Reader]:
    """A reader for each meter; those of one address share its line. ValueError, with the meter, where settings do not fit."""
    lines: dict[str, Any] = {}
    readers = []
    for meter in meters:
        make_line, make_reader = PROTOCOLS[meter.protocol]
        try:
            if meter.address not in lines:
                lines[meter.address] = make_line(meter, timeout_s)
            readers.append(make_reader(meter, lines[meter.address], meter.timeout_s or timeout_s))
        except (ValueError, OSError) as error:
            raise ValueError(f"meter {meter.meter} of {meter.meter_point}: {error}") from error
    return readers


async def poll(
    meter: MeterSettings,
    reader: Reader,
    day: int,
    days: GasDays,
    now: Callable[[], datetime],
    synchronised: bool,
    until_us: int | None = None,
) -> Polled:
    """Read one Gas Day (ordinal) of one meter, or of a Day that has not ended what there is until `until_us`; hold its
    line's lock. Does not raise.

    `synchronised`: whether `now` is known to be right; else the offset of the meter's clock cannot be told.
    """
    start, end = to_datetime(days.start_us(day)), to_datetime(until_us or days.end_us(day))
    whole = end == to_datetime(days.end_us(day))
    attempt = 0
    try:
        while True:
            attempt += 1
            try:
                answer = await reader.read_day(start, end, now)
                return _answered(meter, day, answer, end, synchronised, whole)
            except Unanswered as error:
                return _failed(meter, day, error.cause, attempt)
            except PollError as error:
                if attempt == ATTEMPTS:
                    return _failed(meter, day, error.cause, attempt)
    except Exception as error:  # a fault of ours in reading one meter must not end the others' polls
        log.exception("%s: reading %s failed unexpectedly", meter.meter_point, meter.meter)
        return _failed(meter, day, f"{type(error).__name__}: {error}", attempt)


def _answered(meter: MeterSettings, day: int, answer: Answer, end: datetime, synchronised: bool, whole: bool) -> Polled:
    """`whole`: of a part of a Day the meter's own index is left out, which is compared with the Day's whole advance."""
    readings = answer.readings if synchronised else replace(answer.readings, clock_offset_s=None)
    readings = readings if whole else replace(readings, reference_index=None)
    fact = to_fact(meter, date.fromordinal(day), readings)
    count = sum(index is not None for index in readings.index)
    if readings.complete:
        return Polled(Outcome.COMPLETE, fact, count)
    if answer.log_from is not None and answer.log_from >= end:
        return Polled(Outcome.GONE, fact, 0)  # its end is the next Day's start, and is read with that
    return Polled(Outcome.PARTIAL, fact, count)


def _failed(meter: MeterSettings, day: int, cause: str, attempts: int) -> Polled:
    fact = PollFailed(
        meter_point=meter.meter_point,
        meter=meter.meter,
        gas_day=date.fromordinal(day),
        reason=as_reason(cause),
        attempts=attempts,
    )
    return Polled(Outcome.SILENT, fact, 0)


def to_fact(meter: MeterSettings, gas_day: date, readings: DayReadings) -> Readings:
    """The fact that these readings are; instants as first and spacing where they are evenly spaced."""
    at = readings.at
    step = timedelta(seconds=meter.interval_s)
    even = all(later - earlier == step for earlier, later in pairwise(at))
    offset_s = readings.clock_offset_s
    return Readings(
        meter_point=meter.meter_point,
        meter=meter.meter,
        gas_day=gas_day,
        at=None if even else at,
        first_at=at[0] if even else None,
        interval_s=meter.interval_s if even else None,
        index=readings.index,
        unconverted=readings.unconverted,
        reference_index=readings.reference_index,
        interval_m3=readings.interval_m3,
        status=readings.status,
        clock_offset_s=None if offset_s is None else round(offset_s, 3),
    )


def _modbus_line(meter: MeterSettings, timeout_s: float) -> ModbusLine:
    return modbus_line(meter.address, meter.timeout_s or timeout_s, meter.baud, meter.parity)


def _modbus_reader(meter: MeterSettings, line: ModbusLine, _timeout_s: float) -> Reader:
    if line.baud is not None and line.baud != (meter.baud or BAUD):
        raise ValueError(f"baud: found {meter.baud or BAUD}; allowed: {line.baud}, as with the others at {meter.address}")
    return ModbusMeter(line, int(meter.device), register_map(meter.map or ""), meter.meter_point, meter.interval_s)


# How a line is made, and how a reader of one meter on it.
PROTOCOLS: dict[str, tuple[Callable[[MeterSettings, float], Any], Callable[[MeterSettings, Any, float], Reader]]] = {
    "modbus": (_modbus_line, _modbus_reader),
    "iec62056_21": (lambda meter, _timeout_s: iec_line(meter), iec_reader),
    "dlms": (dlms_line, dlms_reader),
}
