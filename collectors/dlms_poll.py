"""Reads a meter by DLMS/COSEM: its clock, and from its own log the rows between two instants; as a talk without I/O.

A talk is a generator: it yields the bytes to write (perhaps none) and is sent what came in, `b""` where nothing did within the
time-out. So the same session runs over a wrapper, over HDLC on TCP or on a serial line, and in a test over nothing at all.

A session: open the link, associate, read clock, columns, interval and the registers' scalers, the rows by range, release,
close. What is not answered, or wrongly, is asked for again where the link can do that; then the poll has failed. What goes
wrong at the release spoils no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias, TypeVar

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
from collectors.dlms_data import Data, Kind, octet_string
from collectors.dlms_link import Closed, Link, LinkEvent, Message, Opened, Pushed, Say
from collectors.dlms_objects import (
    BUFFER,
    CAPTURE_OBJECTS,
    CAPTURE_PERIOD,
    CLOCK_TIME,
    CUBIC_METRES,
    ENTRIES_IN_USE,
    PROFILE,
    SCALER_UNIT,
    CaptureObject,
    ProfileRow,
    by_entry,
    by_range,
    capture_objects,
    code_of,
    profile_rows,
    scaler_unit,
    time_of,
)
from collectors.dlms_rows import DlmsMeter, column_of, day_readings, event_statuses
from collectors.dlms_time import CosemTime, encode_time, same_form
from collectors.dlms_xdlms import AccessError, Member, Selection, Wanted, access_error
from collectors.reading import DayReadings
from metering.facts import Status

ATTEMPTS = 3
PUSHED_MAX = 8
STEP_S_MIN = 0.5
MARGIN = timedelta(hours=3)
EVENTS_MAX = 20_000  # of one question: more than the longest answer in the smallest pieces
T = TypeVar("T")
_H = TypeVar("_H", bound=Heard)
Talk: TypeAlias = Generator[bytes, bytes, T]


class Silence(RemoteError):
    """Nothing usable came, however often it was asked for."""


class Session:
    """One talk with one meter over a link."""

    def __init__(self, link: Link, association: Association, attempts: int = ATTEMPTS) -> None:
        self._link, self._association = link, association
        self._attempts = attempts
        self.asides: list[str] = []  # what went wrong, and spoils nothing
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
    log = yield from _log_of(session, meter, meter.profile)
    m3_per_count = yield from _m3_per_count(session, meter, log.columns)
    rows = yield from (log.between(first, last) if meter.by_entry else log.of_range(first, last))
    said: set[Status] = {"clock_invalid"} if time.is_invalid else set()
    said |= yield from _events(session, meter, first, last)
    return day_readings(meter, first, last, rows, log.columns, m3_per_count, offset_s, said)


def _events(session: Session, meter: DlmsMeter, first: datetime, last: datetime) -> Talk[set[Status]]:
    """What the log of events says of the Day. What goes wrong there spoils no reading."""
    if meter.events is None:
        return set()
    try:
        log = yield from _log_of(session, meter, meter.events)
        rows = yield from (log.between(first, last) if meter.by_entry else log.of_range(first, last))
        return event_statuses(meter, first, last, rows, log.columns)
    except RemoteError as error:
        session.asides.append(f"the log of events {code_of(meter.events)} could not be read: {error}")
        return set()


def _log_of(session: Session, meter: DlmsMeter, profile: bytes) -> Talk[_Log]:
    """A profile, with its columns and its period."""
    (objects,) = yield from session.get(Wanted(Member(PROFILE, profile, CAPTURE_OBJECTS)))
    (period,) = yield from session.get(Wanted(Member(PROFILE, profile, CAPTURE_PERIOD)))
    return _Log(session, meter, profile, capture_objects(objects), period.number)


@dataclass(frozen=True, slots=True)
class _Log:
    """A profile's rows, as a session can ask for them."""

    session: Session
    meter: DlmsMeter
    profile: bytes
    columns: Sequence[CaptureObject]
    period_s: int

    def of_range(self, first: datetime, last: datetime) -> Talk[list[ProfileRow]]:
        """The rows in [first, last], by range of time."""
        meter = self.meter
        zone = meter.zone if meter.asks_local else None
        return (yield from self._rows(by_range(first, last, zone, meter.east_is_positive)))

    def between(self, first: datetime, last: datetime) -> Talk[list[ProfileRow]]:
        """The rows in [first, last] and some beside them, by their numbers, in whichever order of time the log is.

        Looks for both ends by halves. Wider by `MARGIN`: a row may be captured meanwhile, which moves the others, and an hour
        of local time may be there twice.
        """
        (in_use,) = yield from self.session.get(Wanted(Member(PROFILE, self.profile, ENTRIES_IN_USE)))
        count = in_use.number
        if count < 1:
            return []
        one_end = yield from self._row(1)
        other_end = yield from self._row(count)
        is_rising = one_end.at <= other_end.at
        low = yield from self._first(first - MARGIN, count, is_rising)
        high = yield from self._first(last + MARGIN, count, is_rising)
        if low == high:
            return []
        numbers = (low, high - 1) if is_rising else (count + 2 - high, count + 1 - low)
        return (yield from self._rows(by_entry(*numbers)))

    def _first(self, instant: datetime, count: int, is_rising: bool) -> Talk[int]:
        """The place, counted from 1 and from the oldest, of the first row at or after the instant; `count` + 1 for none."""
        low, high = 1, count + 1
        while low < high:
            middle = (low + high) // 2
            row = yield from self._row(middle if is_rising else count + 1 - middle)
            low, high = (middle + 1, high) if row.at < instant else (low, middle)
        return low

    def _row(self, number: int) -> Talk[ProfileRow]:
        rows = yield from self._rows(by_entry(number, number))
        if len(rows) != 1:
            raise Malformed(f"{len(rows)} rows where row {number} was asked for")
        return rows[0]

    def _rows(self, selection: Selection) -> Talk[list[ProfileRow]]:
        meter = self.meter
        (buffer,) = yield from self.session.get(Wanted(Member(PROFILE, self.profile, BUFFER), selection))
        return list(profile_rows(buffer, self.columns, self.period_s, meter.zone, meter.east_is_positive))


def _m3_per_count(session: Session, meter: DlmsMeter, columns: Sequence[CaptureObject]) -> Talk[dict[bytes, Decimal]]:
    """Of the registers that the profile has, by their scalers. One whose unit is not cubic metres is no index."""
    found: dict[bytes, Decimal] = {}
    for name, _ in meter.registers():
        column = column_of(columns, name)
        if column is None:
            continue
        (data,) = yield from session.get(Wanted(Member(columns[column].class_id, name, SCALER_UNIT)))
        scaler = scaler_unit(data)
        if scaler.unit not in CUBIC_METRES:
            raise Malformed(f"{code_of(name)} is in unit {scaler.unit}, not in cubic metres")
        found[name] = scaler.value(1)
    return found
