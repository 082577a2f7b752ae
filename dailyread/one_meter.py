"""One meter of a gateway's configuration, in the foreground: found by its name, made ready to be asked, and what goes over its
line shown.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from decimal import Decimal

from collectors.clock import Clock, RemoteClock, SystemClock
from collectors.dlms_maps import dlms_map
from collectors.poll import make_readers
from collectors.profile_maps import profile_map
from collectors.reader import Reader
from collectors.trace import Frame
from dailyread.config import GatewayConfig
from dailyread.meters import MeterConfig, Named
from dailyread.report.tables import PLAIN_WIDTH, WIDTH_MIN
from dailyread.report.wording import plain, some
from dailyread.settings import nearest

OCTETS_IN_ROW, OCTETS_IN_NARROW_ROW = 32, 16
NAMES_SHOWN = 20
INDENT = " " * 21


def meter_of(config: GatewayConfig, name: str) -> MeterConfig | None:
    """The meter with this serial number, or else of this meter point."""
    by_name = {meter.meter_point: meter for meter in config.meters} | {meter.meter: meter for meter in config.meters}
    return by_name.get(name)


def unknown(config: GatewayConfig, name: str) -> str:
    """What to say of a name that no meter has."""
    loggers = config.mqtt.loggers if config.mqtt else ()
    pushing: list[Named] = [*loggers, *(config.dlms_push.meters if config.dlms_push else ())]
    if any(name in (each.meter, each.meter_point) for each in pushing) or any(name == each.logger for each in loggers):
        return f'METER: found "{name}", which pushes its readings and is not asked; allowed: a meter of `[[meters]]`'
    names = [meter.meter for meter in config.meters]
    hint = nearest(name, names) if len(names) <= NAMES_SHOWN else f"allowed: {some(names, NAMES_SHOWN)}"
    return f'METER: found "{name}", which is no serial number or meter point of the configuration; {hint}'


def meter_or_exit(config: GatewayConfig, name: str) -> MeterConfig:
    """The meter of that name; where there is none, says so and ends the program with exit code 2."""
    meter = meter_of(config, name)
    if meter is None:
        print(unknown(config, name), file=sys.stderr)
        raise SystemExit(2)
    return meter


def reader_or_exit(config: GatewayConfig, meter: MeterConfig) -> Reader:
    """A reader of the meter; a mistake in its settings is printed and ends the program with exit code 2."""
    try:
        (reader,) = make_readers([meter], config.polling.timeout_s)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    return reader


@asynccontextmanager
async def clock_of(config: GatewayConfig, command: str) -> AsyncIterator[Clock]:
    """The configuration's clock; virtual time stands while the command works. OSError, ClockEnded."""
    if config.clock == "system":
        yield SystemClock()
        return
    clock = await RemoteClock.join(config.clock, f"{config.gateway} {command}")
    try:
        yield clock
    finally:
        clock.leave()


def m3_per_tick(meter: MeterConfig) -> Decimal | None:
    """What a tick of the index is worth, in m³; None where the map does not say, and the meter's registration does alone."""
    if meter.protocol == "modbus" or not meter.map:
        return None
    return dlms_map(meter.map).m3_per_tick if meter.protocol == "dlms" else profile_map(meter.map).m3_per_tick


def title(meter: MeterConfig) -> str:
    """The meter in a line."""
    device = f", device {meter.device}" if meter.device != "" else ""
    return f"meter {meter.meter} of {meter.meter_point}: {meter.protocol} at {meter.address}{device}, map {meter.map}"


def frame_lines(frame: Frame, describe: Callable[[Frame], str]) -> Iterator[str]:
    """A frame as it went over the line, in hexadecimal, and what it means."""
    head = f"{frame.at.astimezone(UTC):%H:%M:%S.%f}"[:-3] + ("  sent   " if frame.sent else "  heard  ")
    columns = max(shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns, WIDTH_MIN)
    in_row = OCTETS_IN_ROW if columns >= len(INDENT) + 3 * OCTETS_IN_ROW - 1 else OCTETS_IN_NARROW_ROW
    for first in range(0, len(frame.octets), in_row):
        yield (INDENT if first else head) + frame.octets[first : first + in_row].hex(" ")
    for line in describe(frame).splitlines():
        yield from textwrap.wrap(plain(line), columns, initial_indent=INDENT, subsequent_indent=INDENT)
