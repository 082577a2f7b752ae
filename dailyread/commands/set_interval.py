"""`dailyread set-interval`: have a meter's equipment record at another interval (M4.1.3)."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time

from collectors.clock import ClockEnded
from collectors.orders import INTERVAL_S_MAX, INTERVAL_S_MIN, Answer, Order, answer_to, place, set_interval
from collectors.outbox import Outbox, OutboxError
from collectors.outbox_file import OutboxInUse
from dailyread.config import GatewayConfig, add_config_argument, config_or_exit
from dailyread.meters import MeterConfig
from dailyread.one_meter import clock_of, meter_of, reader_or_exit, unknown
from dailyread.rules_file import rules_or_exit

HELP = """Have a meter's equipment record its readings at another interval (M4.1.3), and read back what it then says. A
gateway that runs is told to do it, between two polls of the meter's line; where none runs, the command does it by itself.
Run it on the gateway's machine, as the user that the gateway runs as. What came of it is recorded as an `interval_set`
fact. A logger that pushes is told by the gateway when it wakes, and an `interval_set` fact says later whether it confirmed.
At which interval readings are asked for is `interval_s` of the meter in the configuration, which this does not change.
Exit 0: the equipment says that it records at that interval (a logger: it has been told); 1: it does not, or did not answer,
or cannot; 2: the configuration is wrong, or has no such meter."""

WAIT_S = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("meter", metavar="METER", help="the meter's serial number or meter point, or the name of a logger")
    parser.add_argument("interval", metavar="INTERVAL", type=interval, help="from 6m to 24h, e.g. 6m, 1h, or 360 (seconds)")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Set the interval; returns the exit code."""
    config = config_or_exit(GatewayConfig, args.config)
    meter = meter_of(config, args.meter)
    name = _logger_of(config, args.meter) if meter is None else meter.meter
    if name is None:
        print(unknown(config, args.meter), file=sys.stderr)
        return 2
    try:
        asked_s = None if meter is None else meter.interval_s
        return _say(name, args.interval, asked_s, _done(config, meter, name, args.interval))
    except (OutboxError, OSError, ClockEnded) as error:
        print(f"dailyread set-interval: {error}", file=sys.stderr)
        return 1


def interval(text: str) -> int:
    """An interval between readings, `6m`, `1h`, or `360` (seconds); 6 minutes is the least (M4.1.3)."""
    found = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    interval_s = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not INTERVAL_S_MIN <= interval_s <= INTERVAL_S_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval from 6m to 24h, such as 6m, 1h or 360 (seconds)")
    return interval_s


def _logger_of(config: GatewayConfig, name: str) -> str | None:
    loggers = config.mqtt.loggers if config.mqtt else ()
    return next((each.logger for each in loggers if name in (each.logger, each.meter, each.meter_point)), None)


def _done(config: GatewayConfig, meter: MeterConfig | None, name: str, interval_s: int) -> Answer:
    calendar = rules_or_exit(config.rules).calendar()
    try:
        outbox = Outbox(config.outbox_file, config.gateway, config.outbox.cap(), calendar)
    except OutboxInUse:
        print(f"the gateway runs; it is asked to set the interval of {name}, and has {WAIT_S:g} s", file=sys.stderr)
        order = Order(meter=name, interval_s=interval_s, until=time.time() + WAIT_S)
        return answer_to(place(config.orders_folder, order), order)
    try:
        if meter is None:
            return Answer(error="loggers are told by the gateway; it does not run")
        return asyncio.run(_directly(config, meter, outbox, interval_s))
    finally:
        outbox.close()


async def _directly(config: GatewayConfig, meter: MeterConfig, outbox: Outbox, interval_s: int) -> Answer:
    reader = reader_or_exit(config, meter)
    async with clock_of(config, "set-interval") as clock, reader.lock:
        try:
            answer, fact = await set_interval(meter, reader, interval_s)
        finally:
            await reader.close()
        if fact is not None:
            outbox.put([fact], clock.now())
    return answer


def _say(name: str, interval_s: int, asked_s: int | None, answer: Answer) -> int:
    if answer.error:
        print(f"{name}: {answer.error}", file=sys.stderr)
        return 1
    if answer.interval_s is None:
        print(f"{name}: told to record every {interval_s} s; an `interval_set` fact will say whether it confirmed")
        return 0
    if answer.interval_s != interval_s:
        print(f"{name}: still says that it records every {answer.interval_s} s", file=sys.stderr)
        return 1
    print(f"{name}: records every {interval_s} s now, as it says itself")
    if asked_s != interval_s:
        print(f"readings are still asked for every {asked_s} s: set `interval_s = {interval_s}` of this meter")
        print("in the configuration too, and start the gateway again")
    return 0
