"""What polling needs of a meter's settings, and of the protocols that read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from collectors.reading import DayReadings, PollError
from collectors.trace import Frame, Trace


class Unanswered(PollError):
    """Nobody there, or nothing said within the time-out: to ask again at once is no use."""


class Unable(PollError):
    """This make of meter cannot do it, or its map does not say how: nothing was sent."""


class MeterSettings(Protocol):
    """One meter of the configuration (`dailyread.config.MeterConfig`)."""

    @property
    def meter_point(self) -> str: ...
    @property
    def meter(self) -> str: ...
    @property
    def protocol(self) -> Literal["modbus", "iec62056_21", "dlms"]: ...
    @property
    def address(self) -> str:
        """`tcp://host:port` or `serial:/dev/NAME`: the line, asked by one poll at a time."""

    @property
    def device(self) -> str | int: ...
    @property
    def map(self) -> str | None: ...
    @property
    def interval_s(self) -> int: ...
    @property
    def timeout_s(self) -> float | None: ...
    @property
    def baud(self) -> int | None: ...
    @property
    def parity(self) -> Literal["none", "even"] | None: ...
    @property
    def within_day(self) -> bool | None:
        """Whether it is asked within the Day too (`polling.within_day_s`); None: over TCP only."""


class Answer(NamedTuple):
    """A Day's readings, and since when the meter's log can have any; None where that is not known."""

    readings: DayReadings
    log_from: datetime | None


class Reader(Protocol):
    """One meter behind its protocol."""

    @property
    def lock(self) -> asyncio.Lock:
        """Of its line; held for the whole of a poll."""

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """The readings from `start` to `end` from the meter's own log. Raises PollError.

        `now` is asked when the meter's clock has been read, for its offset.
        """

    async def set_interval(self, interval_s: int) -> int:
        """Have the equipment record every `interval_s` from now on (M4.1.3), and read back what it then says that it does,
        in seconds. Raises PollError; Unable where there is no way."""

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """Move the equipment's clock towards `now`, by `step_max_s` seconds at most; the offset (its clock less `now`) that is
        read afterwards. Raises PollError; Unable where there is no way."""

    @property
    def trace(self) -> Trace:
        """Of its line: what goes over it, while `lock` is held."""

    def describe(self, frame: Frame) -> str:
        """What a frame of this protocol means, in a line of words for who sets a meter up; no password, no key."""

    async def close(self) -> None:
        """Let go of the line, at the end."""
