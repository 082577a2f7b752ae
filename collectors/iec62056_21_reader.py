"""A meter read by IEC 62056-21, as the gateway polls it: settings and map to session, session to answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from collectors.iec62056_21_clock import set_clock, set_interval
from collectors.iec62056_21_data import MeterTime
from collectors.iec62056_21_describe import described
from collectors.iec62056_21_poll import read_day
from collectors.iec62056_21_session import Iec62056Meter, Session, Timing, in_session
from collectors.profile_maps import ProfileMap, ProfileMapError, profile_map
from collectors.reader import Answer, MeterSettings, Unable, Unanswered
from collectors.reading import PollError
from collectors.serial_port import REMOTE, CharacterLine, SerialLine, TcpSerialLine
from collectors.trace import Frame, Trace

_T = TypeVar("_T")


class IecReader:
    """One meter on a line. A session asks again by itself what is answered badly, so a poll that fails has failed.

    `map_`: whose password is read from its file for each session, for it may change; without it, the meter's own stands.
    """

    def __init__(self, line: CharacterLine, meter: Iec62056Meter, timing: Timing, map_: ProfileMap | None = None) -> None:
        self.line, self.meter, self.timing, self._map = line, meter, timing, map_

    @property
    def lock(self) -> asyncio.Lock:
        """As `Reader.lock`."""
        return self.line.lock

    @property
    def trace(self) -> Trace:
        """As `Reader.trace`: a frame is a message, with its parity stripped, and no password in it."""
        return self.line.trace

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """As `Reader.read_day`."""
        return Answer(await self._done(read_day(self.line, self._as_it_is(), start, end, now, self.timing)), None)

    async def set_interval(self, interval_s: int) -> int:
        """As `Reader.set_interval`."""
        if self.meter.interval_code is None:
            raise Unable(self.meter.site, "its map has no `interval_code`, the register of the recording interval")
        return await self._in_session(lambda session: set_interval(session, interval_s))

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """As `Reader.set_clock`."""
        if not self.meter.clock_may_be_set:
            raise Unable(self.meter.site, "its map does not have `clock_may_be_set = true`")
        return await self._in_session(lambda session: set_clock(session, now, step_max_s))

    def describe(self, frame: Frame) -> str:
        """As `Reader.describe`."""
        return described(frame.octets)

    async def close(self) -> None:
        """As `Reader.close`. Others may share the line, and close it too."""
        await self.line.reset()

    async def _in_session(self, work: Callable[[Session], Awaitable[_T]]) -> _T:
        return await self._done(in_session(self.line, self._as_it_is(), self.timing, work))

    def _as_it_is(self) -> Iec62056Meter:
        """The meter with the password that it has now."""
        try:
            return replace(self.meter, password=self._map.password()) if self._map is not None else self.meter
        except ProfileMapError as error:
            raise Unanswered(self.meter.site, str(error)) from error

    async def _done(self, work: Awaitable[_T]) -> _T:
        try:
            return await work
        except Unable:
            raise
        except PollError as error:
            raise Unanswered(error.site, error.cause) from error


def iec_line(meter: MeterSettings) -> SerialLine | TcpSerialLine:
    """The line of this meter's address. Parity is even unless said otherwise: the standard's characters have 7 bits."""
    parity = meter.parity or "even"
    if meter.address.startswith("serial:"):
        return SerialLine(meter.address.removeprefix("serial:"), parity)
    if meter.address.startswith(REMOTE):
        return SerialLine(meter.address, parity)
    url = urlsplit(meter.address)
    if url.scheme != "tcp" or url.hostname is None or url.port is None:
        raise ValueError(
            f'address: found "{meter.address}"; allowed with iec62056_21: serial:/dev/NAME, tcp://host:port, {REMOTE}host:port'
        )
    return TcpSerialLine(url.hostname, url.port, parity)


def iec_reader(meter: MeterSettings, line: SerialLine | TcpSerialLine, timeout_s: float) -> IecReader:
    """A reader of this meter. ValueError where the settings do not fit."""
    if not meter.map:
        raise ValueError("map: missing; allowed: the name of a profile map, or the path of a .toml file")
    map_ = profile_map(meter.map)
    asked = Iec62056Meter(
        site=meter.meter_point,
        m3_per_tick=map_.m3_per_tick,
        index_code=map_.index_code,
        unconverted_code=map_.unconverted_code,
        unconverted_m3_per_tick=map_.unconverted_m3_per_tick,
        reference_code=map_.reference_code,
        device_address=str(meter.device),
        password=map_.password(),
        password_level=map_.password_level,
        lock_code=map_.lock_code,
        baud=meter.baud or 300,
        baud_max=_baud_max(meter, line, map_.baud_max),
        partial_blocks=map_.partial_blocks,
        wake_up=map_.wake_up,
        interval_s=meter.interval_s,
        time=MeterTime(map_.clock, ZoneInfo(map_.zone)),
        log=map_.log,
        archive=map_.archive,
        stored_code=map_.stored_code,
        formatted=map_.formatted,
        interval_code=map_.interval_code,
        interval_unit_s=map_.interval_unit_s,
        clock_code=map_.clock_code,
        clock_may_be_set=map_.clock_may_be_set,
    )
    return IecReader(line, asked, _timing(line, timeout_s), map_)


def _baud_max(meter: MeterSettings, line: SerialLine | TcpSerialLine, fastest: int) -> int:
    """A converter whose speed is told keeps to it, and so must the meter; one whose speed is not follows the option select."""
    if isinstance(line, TcpSerialLine) and meter.baud is not None:
        return meter.baud
    return max(fastest, meter.baud or 300)


def _timing(line: SerialLine | TcpSerialLine, timeout_s: float) -> Timing:
    # A pseudo-terminal has no line to turn round, and nobody who needs time for it.
    if os.path.realpath(line.path).startswith("/dev/pts/"):
        return Timing(answer_timeout_s=timeout_s, reaction_s=0.0, attempts=2)
    return Timing(answer_timeout_s=timeout_s)
