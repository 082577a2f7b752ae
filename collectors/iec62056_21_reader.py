"""A meter on a serial line, read by IEC 62056-21, as the gateway polls it: settings to session, session to answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from collectors.iec62056_21_data import MeterTime
from collectors.iec62056_21_poll import Iec62056Meter, Timing, read_day
from collectors.profile_maps import profile_map
from collectors.reader import Answer, MeterSettings, Unable, Unanswered
from collectors.reading import PollError
from collectors.serial_port import SerialLine
from collectors.trace import Frame, Trace


class IecReader:
    """One meter on a line. A session asks again by itself what is answered badly, so a poll that fails has failed."""

    def __init__(self, line: SerialLine, meter: Iec62056Meter, timing: Timing) -> None:
        self.line, self.meter, self.timing = line, meter, timing

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
        try:
            return Answer(await read_day(self.line, self.meter, start, end, now, self.timing), None)
        except PollError as error:
            raise Unanswered(error.site, error.cause) from error

    async def set_interval(self, interval_s: int) -> int:
        """As `Reader.set_interval`."""
        raise Unable(self.meter.site, "its map does not say how the interval is set")

    async def set_clock(self, now: Callable[[], datetime], step_max_s: float) -> float:
        """As `Reader.set_clock`."""
        raise Unable(self.meter.site, "its map does not say how the clock is set")

    def describe(self, frame: Frame) -> str:
        """As `Reader.describe`."""
        return frame.octets.decode("ascii", "replace")

    async def close(self) -> None:
        """As `Reader.close`. Others may share the line, and close it too."""
        await self.line.reset()


def iec_line(meter: MeterSettings) -> SerialLine:
    """The line of this meter's address. Parity is even unless said otherwise: the standard's characters have 7 bits."""
    path = meter.address.removeprefix("serial:")
    if not meter.address.startswith("serial:"):
        raise ValueError(f'address: found "{meter.address}"; allowed with iec62056_21: serial:/dev/NAME')
    return SerialLine(path, "none" if meter.parity == "none" else "even")


def iec_reader(meter: MeterSettings, line: SerialLine, timeout_s: float) -> IecReader:
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
        baud=meter.baud or 300,
        baud_max=max(map_.baud_max, meter.baud or 300),
        partial_blocks=map_.partial_blocks,
        interval_s=meter.interval_s,
        time=MeterTime(map_.clock, ZoneInfo(map_.zone)),
    )
    # A pseudo-terminal has no line to turn round, and nobody who needs time for it.
    is_pty = os.path.realpath(line.path).startswith("/dev/pts/")
    patience = Timing(answer_timeout_s=timeout_s, reaction_s=0.0, attempts=2) if is_pty else Timing(answer_timeout_s=timeout_s)
    return IecReader(line, asked, patience)
