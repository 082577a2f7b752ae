"""Reads a meter by DLMS/COSEM: its clock, and from its own log the rows between two instants; as a talk without I/O.

A talk is a generator: it yields the bytes to write (perhaps none) and is sent what came in, `b""` where nothing did within the
time-out. So the same session runs over a wrapper, over HDLC on TCP or on a serial line, and in a test over nothing at all.

A session: open the link, associate, read clock, columns, interval and the registers' scalers, the rows by range, release,
close. What is not answered, or wrongly, is asked for again where the link can do that; then the poll has failed. What goes
wrong at the release spoils no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from collectors.dlms_base import NEED_DATA, Malformed, NeedData, Refused, RemoteError, WrongAnswer
from collectors.dlms_client import (
    Associate,
    Associated,
    Association,
    Get,
    Got,
    Heard,
    Release,
    Released,
    Said,
    Set,
    State,
    Written,
)
from collectors.dlms_data import NULL, Data, Kind, octet_string
from collectors.dlms_link import Closed, Link, LinkEvent, Message, Opened, Pushed, Say
from collectors.dlms_objects import (
    BUFFER,
    CAPTURE_OBJECTS,
    CAPTURE_PERIOD,
    CLOCK_TIME,
    CUBIC_METRES,
    PROFILE,
    SCALER_UNIT,
    VALUE,
    CaptureObject,
    ProfileRow,
    ScalerUnit,
    by_range,
    capture_objects,
    code_of,
    profile_rows,
    scaler_unit,
    time_of,
)
from collectors.dlms_time import CosemTime, encode_time, same_form
from collectors.dlms_xdlms import AccessError, Member, Wanted, access_error
from collectors.reading import DayReadings
from metering.facts import ReferenceIndex, Status

ATTEMPTS = 3
PUSHED_MAX = 8
STEP_S_MIN = 0.5
EVENTS_MAX = 20_000  # of one question: more than the longest answer in the smallest pieces
T = TypeVar("T")
_H = TypeVar("_H", bound=Heard)
Talk: TypeAlias = Generator[bytes, bytes, T]


class Silence(RemoteError):
    """Nothing usable came, however often it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsMeter:
    """What to know of a meter to read its log. Names are those of objects in the profile, six octets.

    `m3_per_tick` is what a tick of the index and of the reference is worth, as the meter's registration has it; the meter's own
    scaler is read and used, and what it gives must be whole ticks. `zone`: of a meter that does not say its deviation from
    UTC; with `asks_local` the range is asked for in its local time. `status_name`: a column whose bits are `status_bits`.
    """

    m3_per_tick: Decimal
    profile: bytes
    index: bytes
    unconverted: bytes | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference: bytes | None = None
    status_name: bytes | None = None
    status_bits: tuple[tuple[int, Status], ...] = ()
    interval_s: int = 3600
    zone: ZoneInfo | None = None
    asks_local: bool = False
    east_is_positive: bool = False

    def registers(self) -> list[tuple[bytes, Decimal]]:
        """The names of the registers, and what a tick of each is worth."""
        found = [(self.index, self.m3_per_tick)]
        if self.unconverted is not None:
            found.append((self.unconverted, self.unconverted_m3_per_tick or self.m3_per_tick))
        if self.reference is not None:
            found.append((self.reference, self.m3_per_tick))
        return found


class Session:
    """One talk with one meter over a link."""

    def __init__(self, link: Link, association: Association, attempts: int = ATTEMPTS) -> None:
        self._link, self._association = link, association
        self._attempts = attempts
        self.pushed: list[bytes] = []  # what the meter said of itself meanwhile

    @property
    def password(self) -> bytes:
        """Of its association."""
        return self._association.password

    @property
    def is_secret(self) -> bool:
        """Whether what is said now may have the password in it."""
        return bool(self.password) and self._association.state is State.ASKED

    def open(self) -> Talk[Associated]:
        """Link and association. Raises RemoteError."""
        opening = self._link.open()
        if opening:
            yield from self._until(opening, Opened)
        return (yield from self._ask(Associate(), Associated))

    def get(self, *wanted: Wanted) -> Talk[tuple[Data, ...]]:
        """The values of these attributes, in one request. Raises RemoteError; Refused where one has none."""
        got = yield from self._ask(Get(wanted), Got)
        for one, result in zip(wanted, got.results, strict=True):
            if isinstance(result, AccessError):
                raise Refused(f"{code_of(one.attribute.name)} attribute {one.attribute.number}: {access_error(result.code)}")
        return tuple(result for result in got.results if isinstance(result, Data))

    def set(self, attribute: Member, data: Data) -> Talk[None]:
        """Write one attribute. Raises RemoteError; Refused where the meter will not."""
        yield from self._ask(Set(attribute, data), Written)

    def close(self) -> Talk[None]:
        """Release and disconnect. Nothing that goes wrong here is an error."""
        self._attempts = 1
        try:
            if self._association.state is State.READY:
                yield from self._ask(Release(), Released)
            if closing := self._link.close():
                yield from self._until(closing, Closed)
        except RemoteError:
            return

    def _ask(self, said: Said, expected: type[_H]) -> Talk[_H]:
        writing = self._link.send(self._association.send(said))
        while True:
            message = yield from self._until(writing, Message)
            try:
                heard = self._association.heard(message.data)
            except WrongAnswer:  # a late one; ours is still to come
                writing = b""
                continue
            if isinstance(heard, Say):
                writing = self._link.send(heard.data)
            elif isinstance(heard, expected):
                return heard
            else:
                writing = b""

    def _until(self, writing: bytes, expected: type[T]) -> Talk[T]:
        """Write, and go on until the link brings what is expected; ask again after silence, as far as that can help."""
        cause, attempt = "no answer", 1
        for _ in range(EVENTS_MAX):
            event = NEED_DATA if writing else self._next_event()
            if isinstance(event, NeedData):
                data = yield writing
                writing = b""
                self._link.receive_data(data)
                if not data and not self._link.silence():
                    writing = self._link.repeat() if attempt < self._attempts else b""
                    attempt += 1
                    if not writing:
                        raise Silence(cause)
            elif isinstance(event, RemoteError):
                if not self._link.repeat():
                    raise event
                cause = f"{type(event).__name__}: {event}"
            elif isinstance(event, Say):
                writing = event.data
            elif isinstance(event, expected):
                return event
            elif isinstance(event, Closed):
                raise Silence("the meter has closed the link")
            elif isinstance(event, Pushed):
                self.pushed = [*self.pushed[1 - PUSHED_MAX :], event.data]
        raise Silence("no end of it")

    def _next_event(self) -> LinkEvent | NeedData | RemoteError:
        try:
            return self._link.next_event()
        except RemoteError as error:
            return error


def read_day(
    session: Session, meter: DlmsMeter, first: datetime, last: datetime, now: Callable[[], datetime]
) -> Talk[DayReadings]:
    """The log's rows in [first, last], the Day's boundaries. Raises RemoteError where the meter does not say.

    A log without any row there is an answer too: every reading is missing. `now`: the gateway's clock, against which the
    meter's is measured.
    """
    return (yield from within(session, _read(session, meter, first, last, now)))


def set_interval(session: Session, meter: DlmsMeter, interval_s: int) -> Talk[int]:
    """Have the profile capture every `interval_s`; what it then says that it does, in seconds. Raises RemoteError."""
    return (yield from within(session, _set_interval(session, Member(PROFILE, meter.profile, CAPTURE_PERIOD), interval_s)))


def _set_interval(session: Session, period: Member, interval_s: int) -> Talk[int]:
    yield from session.set(period, Data(Kind.DOUBLE_LONG_UNSIGNED, interval_s))
    (said,) = yield from session.get(Wanted(period))
    return said.number


def set_clock(session: Session, meter: DlmsMeter, now: Callable[[], datetime], step_max_s: float) -> Talk[float]:
    """Move the meter's clock towards `now` by `step_max_s` at most; its offset after that, in seconds. Raises RemoteError.

    A clock that is less than `STEP_S_MIN` off stays as it is.
    """
    return (yield from within(session, _set_clock(session, meter, now, step_max_s)))


def _set_clock(session: Session, meter: DlmsMeter, now: Callable[[], datetime], step_max_s: float) -> Talk[float]:
    time, offset_s = yield from _clock(session, meter, now)
    step_s = max(-step_max_s, min(step_max_s, -offset_s))
    if abs(step_s) < STEP_S_MIN:
        return offset_s
    shows = now() + timedelta(seconds=offset_s + step_s)
    yield from session.set(CLOCK_TIME, octet_string(encode_time(same_form(time, shows, meter.zone, meter.east_is_positive))))
    _, offset_s = yield from _clock(session, meter, now)
    return offset_s


def _clock(session: Session, meter: DlmsMeter, now: Callable[[], datetime]) -> Talk[tuple[CosemTime, float]]:
    """What the meter's clock says, and its offset."""
    (clock,) = yield from session.get(Wanted(CLOCK_TIME))
    asked_at = now()
    time = time_of(clock)
    offsets = [(instant - asked_at).total_seconds() for instant in time.instants(meter.zone, meter.east_is_positive)]
    return time, min(offsets, key=abs)


def within(session: Session, talk: Talk[T]) -> Talk[T]:
    """The talk, in an association of its own. What goes wrong after it spoils nothing."""
    yield from session.open()
    try:
        found = yield from talk
    except RemoteError:
        yield from session.close()
        raise
    yield from session.close()
    return found


def _read(
    session: Session, meter: DlmsMeter, first: datetime, last: datetime, now: Callable[[], datetime]
) -> Talk[DayReadings]:
    time, offset_s = yield from _clock(session, meter, now)
    (objects,) = yield from session.get(Wanted(Member(PROFILE, meter.profile, CAPTURE_OBJECTS)))
    (period,) = yield from session.get(Wanted(Member(PROFILE, meter.profile, CAPTURE_PERIOD)))
    columns = capture_objects(objects)
    scalers = yield from _scalers(session, meter, columns)
    selection = by_range(first, last, meter.zone if meter.asks_local else None, meter.east_is_positive)
    (buffer,) = yield from session.get(Wanted(Member(PROFILE, meter.profile, BUFFER), selection))
    rows = profile_rows(buffer, columns, period.number, meter.zone, meter.east_is_positive)
    return day_readings(meter, first, last, rows, columns, scalers, offset_s, time.is_invalid)


def _scalers(session: Session, meter: DlmsMeter, columns: Sequence[CaptureObject]) -> Talk[dict[bytes, ScalerUnit]]:
    """Of the registers that the profile has. One whose unit is not cubic metres is no index."""
    found: dict[bytes, ScalerUnit] = {}
    for name, _ in meter.registers():
        column = _column(columns, name)
        if column is None:
            continue
        (data,) = yield from session.get(Wanted(Member(columns[column].class_id, name, SCALER_UNIT)))
        found[name] = scaler_unit(data)
        if found[name].unit not in CUBIC_METRES:
            raise Malformed(f"{code_of(name)} is in unit {found[name].unit}, not in cubic metres")
    return found


def _column(columns: Sequence[CaptureObject], name: bytes) -> int | None:
    return next((n for n, column in enumerate(columns) if column.name == name and column.attribute == VALUE), None)


def day_readings(
    meter: DlmsMeter,
    first: datetime,
    last: datetime,
    rows: Iterable[ProfileRow],
    columns: Sequence[CaptureObject],
    scalers: Mapping[bytes, ScalerUnit],
    clock_offset_s: float,
    clock_invalid: bool = False,
) -> DayReadings:
    """Readings at the boundaries, every interval between, and where else there is a row. Where two rows of one instant differ,
    nobody knows which is right, and the reading is missing. Raises Malformed."""
    if _column(columns, meter.index) is None:
        raise Malformed(f"the profile has no column {code_of(meter.index)}")
    by_instant: dict[datetime, ProfileRow | None] = {}
    for row in rows:
        if first <= row.at <= last:
            known = by_instant.get(row.at, row)
            by_instant[row.at] = row if known is not None and known.values == row.values else None
    at = tuple(sorted({last, *by_instant, *_grid(first, last, timedelta(seconds=meter.interval_s))}))
    held = [by_instant.get(instant) for instant in at]
    series = {name: _ticks(held, _column(columns, name), scalers.get(name), tick) for name, tick in meter.registers()}
    reference = series.get(meter.reference) if meter.reference is not None else None
    return DayReadings(
        at=at,
        index=series[meter.index] or (None,) * len(at),
        unconverted=series[meter.unconverted] if meter.unconverted is not None else None,
        reference_index=_reference(reference),
        status=_statuses(meter, by_instant.values(), columns, clock_invalid),
        clock_offset_s=clock_offset_s,
    )


def _grid(first: datetime, last: datetime, interval: timedelta) -> Iterator[datetime]:
    while first < last:
        yield first
        first += interval


def _ticks(
    rows: Sequence[ProfileRow | None], column: int | None, scaler: ScalerUnit | None, m3_per_tick: Decimal
) -> tuple[int | None, ...] | None:
    """A register's column in ticks, None where one is missing; None where all are."""
    if column is None or scaler is None:
        return None
    values = [None if row is None or row.values[column] == NULL else row.values[column] for row in rows]
    if all(value is None for value in values):
        return None
    return tuple(None if value is None else _whole_ticks(scaler.value(value.number), m3_per_tick) for value in values)


def _whole_ticks(value_m3: Decimal, m3_per_tick: Decimal) -> int:
    ticks = value_m3 / m3_per_tick
    if ticks != int(ticks) or ticks < 0:
        raise Malformed(f"{value_m3} m³ is not whole ticks of {m3_per_tick} m³")
    return int(ticks)


def _reference(ticks: Sequence[int | None] | None) -> ReferenceIndex | None:
    if ticks is None or ticks[0] is None or ticks[-1] is None:
        return None
    return ReferenceIndex(start=ticks[0], end=ticks[-1])


def _statuses(
    meter: DlmsMeter, rows: Iterable[ProfileRow | None], columns: Sequence[CaptureObject], clock_invalid: bool
) -> tuple[Status, ...]:
    """What the rows' status says, and their times' and the clock's own."""
    said: set[Status] = {"clock_invalid"} if clock_invalid else set()
    column = None if meter.status_name is None else _column(columns, meter.status_name)
    for row in rows:
        if row is None:
            continue
        if row.time.is_invalid:
            said.add("clock_invalid")
        if column is not None:
            word = _status_word(row.values[column])
            said.update(status for bit, status in meter.status_bits if word >> bit & 1)
    return tuple(sorted(said))


def _status_word(data: Data) -> int:
    """A status, as a number or as a bit string, whose first bit is bit 0."""
    if data.kind is Kind.BIT_STRING and isinstance(data.value, str):
        return int(data.value[::-1] or "0", 2)
    return 0 if data == NULL else data.number
