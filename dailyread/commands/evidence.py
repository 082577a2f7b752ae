"""`dailyread evidence`: the octets from which a Gas Day's readings were taken."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable

from collectors.evidence import find
from collectors.poll import make_readers
from collectors.trace import Frame
from dailyread.arguments import gas_day
from dailyread.config import GatewayConfig, add_config_argument, config_or_exit
from dailyread.one_meter import frame_lines, meter_of, title
from dailyread.report.wording import gas_day as day_text

HELP = """Show what went over the line when a meter's readings of a Gas Day were taken: every frame that was sent and heard,
with its time (UTC), its octets and what they mean (passwords are not kept). On the gateway's machine; the gateway may run
meanwhile. It keeps the octets of each poll that brought readings, the newest up to `[evidence] max_bytes`.
Exit 0: shown; 1: nothing is kept of this meter and Day, or the file cannot be read; 2: the configuration is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("meter", metavar="METER", help="the meter's serial number, or its meter point, as in the configuration")
    parser.add_argument("day", metavar="DAY", type=gas_day, help="the Gas Day, e.g. 2026-10-01")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the evidence; returns the exit code."""
    config = config_or_exit(GatewayConfig, args.config)
    meter = meter_of(config, args.meter)
    serial = args.meter if meter is None else meter.meter  # one that is in the configuration no longer may have evidence
    try:
        polls = find(config.evidence_file, serial, args.day)
    except FileNotFoundError:
        print(f"dailyread evidence: there is no {config.evidence_file}; no poll has brought readings here yet", file=sys.stderr)
        return 1
    except (OSError, sqlite3.Error, ValueError) as error:
        print(f"dailyread evidence: {config.evidence_file}: {error}", file=sys.stderr)
        return 1
    if not polls:
        known = "" if meter is not None else ", which is no meter of `[[meters]]` in the configuration"
        print(f"dailyread evidence: nothing is kept of meter {serial} and Gas Day {args.day}{known}", file=sys.stderr)
        return 1
    describe = _describe(config, args.meter)
    print(f"meter {serial}" if meter is None else title(meter))
    for frames in polls:
        print(f"\nGas Day {day_text(args.day)}, polled on {frames[0].at:%Y-%m-%d}\n")
        for frame in frames:
            print(*frame_lines(frame, describe), sep="\n")
    return 0


def _describe(config: GatewayConfig, name: str) -> Callable[[Frame], str]:
    """What says what a frame means; without the meter's settings nobody can."""
    meter = meter_of(config, name)
    try:
        readers = make_readers([] if meter is None else [meter], config.polling.timeout_s)
    except ValueError:
        readers = []
    return readers[0].describe if readers else lambda _frame: ""
