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
from collectors.reader import Answer, MeterSettings, Unanswered
from collectors.reading import PollError
from collectors.serial_port import SerialLine


class IecReader:
    """One meter on a line. A session asks again by itself what is answered badly, so a poll that fails has failed."""

    def __init__(self, line: SerialLine, meter: Iec62056Meter, timing: Timing) -> None:
        self.line, self.meter, self.timing = line, meter, timing
        self.lock = asyncio.Lock()  # the line has its own, which a session holds

    async def read_day(self, start: datetime, end: datetime, now: Callable[[], datetime]) -> Answer:
        """As `Reader.read_day`."""
        try:
            return Answer(await read_day(self.line, self.meter, start, end, now, self.timing), None)
        except PollError as error:
            raise Unanswered(error.site, error.cause) from error

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
