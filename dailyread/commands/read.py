"""`dailyread read`: one meter, now, in the foreground: what went over its line, and what it means."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from rich.table import Table

from collectors.clock import ClockEnded, is_synchronised
from collectors.poll import poll
from collectors.reader import Reader
from collectors.trace import Frame
from dailyread.arguments import gas_day
from dailyread.config import GatewayConfig, add_config_argument, config_or_exit
from dailyread.meters import MeterConfig
from dailyread.one_meter import clock_of, frame_lines, m3_per_tick, meter_or_exit, reader_or_exit, title
from dailyread.report.tables import console
from dailyread.report.wording import gas_day as day_text
from dailyread.report.wording import instant, number, plain
from dailyread.rules_file import rules_or_exit
from metering.facts import PollFailed, Readings
from metering.gasday import to_us

HELP = """Read one meter of a gateway's configuration now, while you look on: for setting it up, and for finding out why it
does not answer. Shows every frame that is sent and heard, with its time (UTC), its octets and what they mean (passwords are
blanked), then the readings of the Gas Day from the meter's log. Nothing is stored or published. The gateway may run
meanwhile, but a serial line is used by one of them at a time: where the line is in use, try again after a minute.
Exit 0: all readings of the Day are there; 1: some are missing, or the meter did not answer as it should; 2: the
configuration is wrong, or has no such meter, or the Day has not begun."""

LONDON = ZoneInfo("Europe/London")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("meter", metavar="METER", help="the meter's serial number, or its meter point, as in the configuration")
    add_config_argument(parser)
    parser.add_argument(
        "--day", metavar="DAY", type=gas_day, help="the Gas Day, e.g. 2026-10-01 (default: the last that ended)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, for other programs")


def run(args: argparse.Namespace) -> int:
    """Read the meter; returns the exit code."""
    config = config_or_exit(GatewayConfig, args.config)
    meter = meter_or_exit(config, args.meter)
    try:
        return asyncio.run(_read(config, meter, args.day, args.json))
    except (OSError, ClockEnded) as error:
        print(f"dailyread read: {config.clock}: {error}", file=sys.stderr)
        return 1


async def _read(config: GatewayConfig, meter: MeterConfig, day: date | None, as_json: bool) -> int:
    days = rules_or_exit(config.rules).calendar()
    reader = reader_or_exit(config, meter)
    async with clock_of(config, "read") as clock, reader.lock:
        present = days.day_of(to_us(clock.now()))
        wanted = present - 1 if day is None else day.toordinal()
        if wanted > present:
            said = f"--day: found {day}, which has not begun; allowed: {date.fromordinal(present)} (that runs), or before"
            print(said, file=sys.stderr)
            return 2
        if not as_json:
            print(f"{title(meter)}\nGas Day {day_text(date.fromordinal(wanted))}\n", flush=True)
            reader.trace.tell = lambda frame: print(*frame_lines(frame, reader.describe), sep="\n", flush=True)
        try:
            polled = await poll(meter, reader, wanted, days, clock.now, synchronised=True)
        finally:
            await reader.close()
        synchronised = is_synchronised(clock)
    if as_json:
        print(msgspec.json.encode({"clock_synchronised": synchronised, **_as_json(reader, polled.fact)}).decode())
    else:
        _show(meter, polled.fact, synchronised, reader.trace.frames)
    return 0 if isinstance(polled.fact, Readings) and None not in polled.fact.index else 1


def _as_json(reader: Reader, fact: Readings | PollFailed) -> dict[str, Any]:
    def of(frame: Frame) -> dict[str, Any]:
        return {"at": frame.at, "sent": frame.sent, "octets": frame.octets.hex(), "means": reader.describe(frame)}

    return {"frames": [of(frame) for frame in reader.trace.frames], "frames_left_out": reader.trace.left_out, "fact": fact}


def _where_to_look(meter: MeterConfig, heard: bool) -> str:
    """What of the configuration may be wrong, where nothing was read."""
    if not heard:
        device = f", device {meter.device}" if meter.device != "" else ""
        line = ", speed and parity" if meter.address.startswith("serial:") else ""
        address = meter.address.replace("rtu+", "").replace("rfc2217:", "tcp:")
        return f"Nothing was heard. Look at address{device}{line}. What does answer there:\ndailyread probe {address}"
    return f'Something answers. Look at the map "{meter.map}": is it of this make of meter, are its password and keys?'


def _show(meter: MeterConfig, fact: Readings | PollFailed, synchronised: bool, frames: Sequence[Frame]) -> None:
    out = console(sys.stdout)
    if isinstance(fact, PollFailed):
        times = "1 attempt" if fact.attempts == 1 else f"{fact.attempts} attempts"
        out.print(("\n" if frames else "") + f"No readings after {times}: {plain(fact.reason)}", markup=False)
        out.print(_where_to_look(meter, heard=any(not frame.sent for frame in frames)), markup=False)
        return
    out.print("", _readings(meter, fact))
    out.print("\n" + "\n".join(_summary(fact, synchronised)), markup=False)


def _summary(fact: Readings, synchronised: bool) -> Iterator[str]:
    yield f"{len(fact.index) - fact.index.count(None)} of {len(fact.index)} readings"
    yield f"status: {', '.join(fact.status) or 'nothing amiss'}"
    offset = "not known" if fact.clock_offset_s is None else f"{fact.clock_offset_s:+.1f} s against this machine's"
    yield f"the meter's clock: {offset}" + ("" if synchronised else ", which nothing synchronises")
    if (own := fact.reference_index) is not None:
        yield f"the meter's own index: {own.start} to {own.end}" + (f", {own.digits} digits" if own.digits else "")


def _readings(meter: MeterConfig, fact: Readings) -> Table:
    """Of what the map does not know, or the meter does not have, no column."""
    m3 = m3_per_tick(meter)
    columns: dict[str, list[str]] = {
        "at": [instant(at, LONDON) for at in fact.instants()],
        "index": ["missing" if index is None else str(index) for index in fact.index],
    }
    if m3 is not None:
        columns["m³"] = ["–" if index is None else number(index * m3) for index in fact.index]
    if any(other is not None for other in fact.unconverted or ()):
        columns["unconverted"] = ["–" if other is None else str(other) for other in fact.unconverted or ()]
    table = Table(box=None, pad_edge=False)
    for head in columns:
        table.add_column(head, justify="left" if head == "at" else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
