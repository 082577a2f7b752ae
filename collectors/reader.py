"""What polling needs of a meter's settings, and of the protocols that read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from collectors.reading import DayReadings, PollError


class Unanswered(PollError):
    """Nobody there, or nothing said within the time-out: to ask again at once is no use."""


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

    async def close(self) -> None:
        """Let go of the line, at the end."""
