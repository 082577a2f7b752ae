"""Reads a meter over a serial line by IEC 62056-21 mode C: its clock, and from its own log the rows between two instants.

A session: sign-on, identification, programming mode with change of speed, password where there is one, `0.9.2` and `0.9.1`
(date and time), `P.01(from;to)`, break. What is not answered, or wrongly, is asked for again, `attempts` times in all; then the
poll has failed, with a cause, and no reading comes of it.

The meter's own index, where the equipment reads it (an encoder, or the convertor's own), is a further channel of the profile,
`reference_code`: its values at both ends of the range are the `reference_index`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from collectors.iec62056_21 import Client, Malformed, RemoteError, State, WrongAnswer
from collectors.iec62056_21_data import STATUS_BITS, MeterTime, Row, data_sets, profile_rows, split_stamp
from collectors.iec62056_21_messages import (
    BAUD_MODE_C,
    Accepted,
    Again,
    Answer,
    AskedAgain,
    Break,
    Challenge,
    Continue,
    Heard,
    Identification,
    NeedData,
    PartAnswer,
    Password,
    Read,
    ReadoutFollows,
    Refused,
    Said,
    Select,
    SignOn,
    without_secret,
)
from collectors.reading import DayReadings, PollError
from collectors.serial_port import SerialLine
from metering.facts import ReferenceIndex, Status

ANSWER_CHARACTERS_MAX = 1024 * 1024
AFTER_MIDNIGHT = "000500"
NO_ROWS = "ERROR"  # P.01(ERROR): the log has nothing of that time; what a meter will not do it refuses with a number, ER03
_H = TypeVar("_H", bound=Heard)


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a session is. The standard: a meter reacts within 1.5 s, characters come within 1.5 s of each other.

    `reaction_s`: how long we wait before we speak; None: as the standard has it, 0.2 s, or 0.02 s for quick meters.
    `exchange_timeout_s`: the most that one question with its answer may take.
    """

    answer_timeout_s: float = 2.0
    exchange_timeout_s: float = 60.0
    reaction_s: float | None = None
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec62056Meter:
    """What to know of a meter to read it. Codes are those of its profile's channels; `m3_per_tick` that of `index_code`'s
    register and of the reference's."""

    site: str
    m3_per_tick: Decimal
    index_code: str = "7-0:13.0.0"
    unconverted_code: str | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference_code: str | None = "7-0:3.0.0"
    device_address: str = ""
    password: str | None = field(default=None, repr=False)
    interval_s: int = 3600
    baud: int = 300
    baud_max: int = 9600
    partial_blocks: bool = False
    time: MeterTime = field(default_factory=MeterTime)


async def read_day(
    line: SerialLine,
    meter: Iec62056Meter,
    first: datetime,
    last: datetime,
    now: Callable[[], datetime],
    timing: Timing = Timing(),
) -> DayReadings:
    """The log's rows in [first, last], the Day's boundaries; one session. PollError where the meter does not say.

    A log without any row there is an answer too: every reading is missing. `now`: the gateway's clock, against which
    the meter's is measured. Hold the line's lock.
    """
    try:
        return await _Session(line, meter, now, timing).read(first, last)
    except OSError as error:
        await line.reset()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PollError(meter.site, f"line {line.path}: {reason}") from error
    except RemoteError as error:
        raise PollError(meter.site, f"{type(error).__name__}: {error}") from error


class _Session:
    """One session on an open line."""

    def __init__(self, line: SerialLine, meter: Iec62056Meter, now: Callable[[], datetime], timing: Timing) -> None:
        self._line = line
        self._meter = meter
        self._now = now
        self._timing = timing
        self._client = Client()
        self._reaction_s = 0.2 if timing.reaction_s is None else timing.reaction_s

    async def read(self, first: datetime, last: datetime) -> DayReadings:
        await self._line.open(self._meter.baud)
        await self._sign_on()
        try:
            offset_s = await self._clock_offset_s()
            rows = await self._profile(first, last)
        finally:
            await self._break()
        return day_readings(self._meter, first, last, rows, offset_s)

    async def _sign_on(self) -> None:
        """As far as programming mode. A meter that falls silent at the change of speed is called anew, at the first speed."""
        for attempt in range(1, self._timing.attempts + 1):
            identified = await self._ask(SignOn(self._meter.device_address), Identification)
            if self._timing.reaction_s is None and identified.quick:
                self._reaction_s = 0.02
            try:
                await self._select(identified)
                break
            except _NoAnswer:
                if attempt == self._timing.attempts:
                    raise
                await self._break()
                await self._line.open(self._meter.baud)
        if self._meter.password is not None:
            await self._ask(Password(self._meter.password), Accepted)

    async def _select(self, identified: Identification) -> None:
        fastest = min(identified.baud, self._meter.baud_max)
        character = max(c for c in BAUD_MODE_C if BAUD_MODE_C[c] <= fastest)
        await self._ask(Select("programming", character), Challenge, baud=BAUD_MODE_C[character])

    async def _clock_offset_s(self) -> float:
        """The meter's clock less ours, in seconds; to the second, as the meter tells it."""
        date, time = await self._value("0.9.2"), await self._value("0.9.1")
        now = self._now()
        if time[-6:] < AFTER_MIDNIGHT:
            date = await self._value("0.9.2")  # midnight may have come between
        season, local = split_stamp((time[:-6] or date[:-6]) + date[-6:] + time[-6:])
        offsets = [(instant - now).total_seconds() for instant in self._meter.time.instants(season, local)]
        return min(offsets, key=abs)

    async def _value(self, code: str) -> str:
        """The one value of a data set, of a date or a time: its digits."""
        answer = await self._ask(Read(code), Answer)
        sets = list(data_sets(answer.text))
        digits = re.sub(r"[:.-]", "", sets[0].values[0]) if len(sets) == 1 and len(sets[0].values) == 1 else ""
        if not re.fullmatch("[012]?[0-9]{6}", digits):
            raise Malformed(f"{code}: {answer.text[:32]!r} is no date and no time")
        return digits

    async def _profile(self, first: datetime, last: datetime) -> list[Row]:
        stamps = ";".join(self._meter.time.stamp(instant) for instant in (first, last))
        said: Said = Read("P.01", stamps, self._meter.partial_blocks)
        text = ""
        while True:
            heard: Answer | PartAnswer | Refused = await self._ask(said, Answer, PartAnswer, Refused)
            if isinstance(heard, Refused):
                if heard.text == NO_ROWS and not text:
                    return []
                raise PollError(self._meter.site, f"P.01: {_refusal(heard)}")
            text += heard.text
            if len(text) > ANSWER_CHARACTERS_MAX:
                raise Malformed(f"a profile of more than {ANSWER_CHARACTERS_MAX} characters")
            if isinstance(heard, Answer):
                return profile_rows(text, self._meter.time)
            said = Continue()

    async def _break(self) -> None:
        """Say that it is over. Nothing is expected, and what goes wrong here spoils no reading."""
        if self._client.state is not State.IDLE:
            try:
                await self._write(Break())
            except OSError:
                await self._line.reset()

    async def _ask(self, said: Said, *expected: type[_H], baud: int | None = None) -> _H:
        """Say it until one of the expected events answers it; `baud`: the speed to go on at once it is said."""
        saying, cause = said, "no answer"
        for _ in range(self._timing.attempts):
            await self._say(saying, baud)
            try:
                async with asyncio.timeout(self._timing.exchange_timeout_s):
                    heard = await self._hear()
            except TimeoutError:
                timeout_s = self._timing.exchange_timeout_s
                raise PollError(self._meter.site, f"{_name(said)}: no whole answer within {timeout_s:g} s") from None
            except RemoteError as error:
                cause = f"{type(error).__name__}: {error}"
                saying = said if isinstance(said, SignOn) else Again()
                continue
            if isinstance(heard, expected):
                return heard
            if heard is None and isinstance(said, Select):
                break  # at which speed would it hear us now?
            if heard is not None and (isinstance(said, Continue) or not isinstance(heard, AskedAgain)):
                raise PollError(self._meter.site, f"{_name(said)}: {_refusal(heard)}")
            cause = "no answer" if heard is None else "it does not understand"
            saying = Again() if isinstance(said, Continue) else said
        raise _NoAnswer(self._meter.site, f"{_name(said)}: {cause}")

    async def _say(self, said: Said, baud: int | None) -> None:
        await asyncio.sleep(self._reaction_s)
        await self._write(said)
        if baud is not None:
            await self._line.set_baud(baud)

    async def _write(self, said: Said) -> None:
        self._line.trace.sent(without_secret(said))
        await self._line.write(self._client.send(said))

    async def _hear(self) -> Heard | None:
        """The next event; None where nothing comes. Late answers to other questions are let pass."""
        octets = bytearray()
        try:
            while True:
                try:
                    event = self._client.next_event()
                except WrongAnswer:
                    continue
                if not isinstance(event, NeedData):
                    return event
                data = await self._line.read(self._timing.answer_timeout_s)
                if not data:
                    return None
                octets += data
                self._client.receive_data(data)
        finally:  # in one frame, however the characters trickled in
            self._line.trace.heard(bytes(octets))


class _NoAnswer(PollError):
    """Nothing usable came, however often it was asked for."""


def _name(said: Said) -> str:
    return (
        said.code
        if isinstance(said, Read)
        else {SignOn: "sign-on", Select: "option select"}.get(type(said), type(said).__name__.lower())
    )


def _refusal(heard: Heard) -> str:
    match heard:
        case Refused(text):
            return f"refused: {text}"
        case ReadoutFollows():
            return "a meter of mode A or B, which has no log to ask for"
        case _:
            return f"answered by {type(heard).__name__.lower()}"


def day_readings(
    meter: Iec62056Meter, first: datetime, last: datetime, rows: Sequence[Row], clock_offset_s: float | None
) -> DayReadings:
    """The rows within [first, last] as readings; instants of the recording interval without a row are missing readings.

    PollError where there are rows and none has the index's channel; Malformed where a value is not whole ticks.
    """
    by_instant = {row.at: row for row in rows if first <= row.at <= last}
    at = sorted({last, *by_instant, *_grid(first, last, timedelta(seconds=meter.interval_s))})
    found = {code for row in by_instant.values() for code in row.values}
    if by_instant and found.isdisjoint(_names(meter.index_code)):
        said = f"no index {meter.index_code} in it; it has in m³: {', '.join(sorted(found)) or 'nothing'}"
        raise PollError(meter.site, f"P.01 from {first.isoformat()} to {last.isoformat()}: {said}")
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
