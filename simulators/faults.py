"""What can go wrong with a simulated meter and its Daily Read Equipment, as data.

A fault is one Struct with its instants (UTC, [from, until)) or Gas Days (inclusive). What it does is a pure function of the
fault, the instant that is asked about, and the virtual `now`, so that every run of the same sites says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, field

Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all faults have in common: a `kind`."""


class Span(Fault, frozen=True, kw_only=True):
    """A fault that lasts from an instant until before another."""

    from_: Instant = field(name="from")
    until: Instant

    def __post_init__(self) -> None:
        if self.until <= self.from_:
            raise ValueError(f"until: {self.until} is not after from, {self.from_}")

    def holds(self, instant: datetime) -> bool:
        return self.from_ <= instant < self.until


class DaySpan(Fault, frozen=True, kw_only=True):
    """A fault of some Gas Days, the first and the last included."""

    first_day: date
    last_day: date

    def __post_init__(self) -> None:
        if self.last_day < self.first_day:
            raise ValueError(f"last_day: {self.last_day} is before first_day, {self.first_day}")


class Silence(Span, tag="silence", frozen=True, kw_only=True):
    """The equipment does not answer; it goes on logging."""


class Dead(Fault, tag="dead", frozen=True, kw_only=True):
    """The equipment never answers."""


class NotLogged(DaySpan, tag="not_logged", frozen=True, kw_only=True):
    """The equipment logs nothing between the start of the first Day and the end of the last; both boundaries are logged."""


class Late(Fault, tag="late", frozen=True, kw_only=True):
    """The Day's readings after its start, up to its end, are in the log only from an instant on."""

    day: date
    available_from: Instant


class ReadsLow(DaySpan, tag="reads_low", frozen=True, kw_only=True):
    """The equipment misses `percent` of what the meter registers; the meter's own index shows it.

    `RESYNCHRONISED_AFTER` the end of the last Day it is brought into step with the meter again, and its log with it from that
    end on: it says two values for that boundary, the low one while the last Day is read, the right one when the Day after
    is. So the Days of the span can be had from the right readings on either side of them.
    """

    percent: Annotated[int, Meta(ge=1, le=50)]


class StartDiffers(Fault, tag="start_differs", frozen=True, kw_only=True):
    """The start of the Day, read `RESYNCHRONISED_AFTER` it or later, is `ticks` above what was said for the end of the Day
    before, which was right (4.2.3(c))."""

    day: date
    ticks: int


class ClockOffset(Span, tag="clock_offset", frozen=True, kw_only=True):
    """The equipment's clock is `offset_s` ahead, and so it logs the index of an instant that much earlier.

    Once its clock has been put right, it marks what it logged meanwhile as `clock_invalid`.
    """

    offset_s: int


class Reports(Span, tag="reports", frozen=True, kw_only=True):
    """The equipment marks what it logs with a status: somebody opened its case, its battery is low, ..."""

    status: Literal["tamper", "battery_low", "reed_switch", "bypass_open"]


class Corrupt(Fault, tag="corrupt", frozen=True, kw_only=True):
    """Every n-th answer is spoiled: its check (BCC, CRC) is wrong, or it is too short."""

    every: Annotated[int, Meta(ge=2)]
    how: Literal["wrong_check", "short"] = "wrong_check"


AnyFault: TypeAlias = Silence | Dead | NotLogged | Late | ReadsLow | StartDiffers | ClockOffset | Reports | Corrupt
RESYNCHRONISED_AFTER = timedelta(hours=12)

_F = TypeVar("_F", bound=Fault)


def of_kind(faults: Iterable[AnyFault], kind: type[_F]) -> tuple[_F, ...]:
    """Those of one kind, in order."""
    return tuple(fault for fault in faults if isinstance(fault, kind))


def answers(faults: Iterable[AnyFault], now: datetime) -> bool:
    """Whether the equipment answers at all."""
    return not any(isinstance(fault, Dead) or (isinstance(fault, Silence) and fault.holds(now)) for fault in faults)


def clock_offset_s(faults: Iterable[AnyFault], instant: datetime) -> int:
    """Seconds by which the equipment's clock is ahead."""
    return sum(fault.offset_s for fault in of_kind(faults, ClockOffset) if fault.holds(instant))


def statuses(faults: Iterable[AnyFault], stamp: datetime, now: datetime) -> tuple[str, ...]:
    """How the log's row of `stamp`, read at `now`, is marked."""
    wrong_clock = any(fault.holds(stamp) and now >= fault.until for fault in of_kind(faults, ClockOffset))
    reported = {fault.status for fault in of_kind(faults, Reports) if fault.holds(stamp)}
    return tuple(sorted(reported | ({"clock_invalid"} if wrong_clock else set())))
