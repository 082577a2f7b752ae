"""`dailyread status`: what is running, what waits, what is missing today."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from dailyread.config import GatewayConfig, StreamConfig, add_config_argument, config_or_exit, kind_of
from dailyread.edge_told import Told
from dailyread.report.tables import console
from dailyread.report.wording import gas_day, plain
from dailyread.rules_file import rules_or_exit
from dailyread.settings import ConfigError
from dailyread.standing import GatewayStanding, Group, Missing, Standing, gateway_standing, stream_standing

HELP = """Say how everything is now. With a stream job's configuration: who is in its consumer groups, how many messages wait in
each partition, what the worker at `web` says of itself, what each gateway last said, what gateways told of meters in the last
24 hours (alarms, failed polls, losses, intervals set), and at which meter points the readings
of the Gas Day that ended last are not Valid yet. With a gateway's, on its machine: whether the collector runs, what waits in
its outbox, and whether Kafka can be reached. Exit 0: all runs; 1: somebody should look, as the last lines say; 2: the
configuration is wrong."""

POINTS_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for other programs")


def run(args: argparse.Namespace) -> int:
    """Print how things stand; returns the exit code."""
    standing = _standing(args.config)
    if args.json:
        sys.stdout.buffer.write(msgspec.json.encode(standing) + b"\n")
    else:
        _show(standing)
    return 1 if standing.troubles else 0


def _standing(path: Path | None) -> Standing:
    try:
        kind = StreamConfig if path is None else kind_of(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if kind is GatewayConfig:
        return gateway_standing(config_or_exit(GatewayConfig, path))
    config = config_or_exit(StreamConfig, path)
    return stream_standing(config, rules_or_exit(config.rules))


def _show(standing: Standing) -> None:
    out = console(sys.stdout)
    if standing.groups:
        out.print(_groups(standing.groups))
    if standing.worker is not None:
        partitions = ", ".join(standing.worker["partitions"]) or "none"
        out.print(Text(f"worker {standing.worker['instance']}: {standing.worker['state']}; partitions {partitions}"))
        out.print(Text(f"its rules: {standing.worker['rules']}"))
    if standing.gateways:
        out.print(_gateways(standing.gateways))
        for each in standing.gateways:
            if each.note:
                out.print(Text(f"{plain(each.gateway)}: {plain(each.note)}"))
    if standing.edge:
        out.print(_edge(standing.edge))
    if standing.missing is not None:
        out.print(Text(_missing(standing.missing)))
    for trouble in standing.troubles:
        out.print(Text(f"! {plain(trouble)}"))
    if not standing.troubles:
        out.print("all runs")


def _groups(groups: list[Group]) -> Table:
    table = Table("group", "members", "messages that wait", "by partition")
    for group in groups:
        members = "-" if group.members is None else ", ".join(group.members) or "nobody"
        behind = ", ".join(f"{number}: {lag}" for number, lag in group.lag.items() if lag) or "-"
        table.add_row(*_cells(group.name, members, str(sum(group.lag.values())), behind))
    return table


def _gateways(gateways: list[GatewayStanding]) -> Table:
    table = Table("gateway", "said at", "facts that wait", "the oldest since")
    for each in gateways:
        said_at = "-" if each.said_at is None else f"{each.said_at:%Y-%m-%d %H:%M:%S}Z"
        oldest = "-" if each.oldest_unsent_at is None else f"{each.oldest_unsent_at:%Y-%m-%d %H:%M:%S}Z"
        backlog = "not known" if each.backlog is None else str(each.backlog)
        table.add_row(*_cells(each.gateway, said_at, backlog, oldest))
    return table


def _edge(told: list[Told]) -> Table:
    table = Table("told in 24 hours", "facts", "meter points", "the latest at", "")
    for each in told:
        table.add_row(*_cells(each.kind, str(each.facts), str(each.points), f"{each.at:%Y-%m-%d %H:%M:%S}Z", each.latest))
    return table


def _cells(*texts: str) -> list[Text]:
    """Cells of names from outside, which may hold what a terminal or rich would take as more than text."""
    return [Text(plain(text)) for text in texts]


def _missing(missing: Missing) -> str:
    day = gas_day(missing.gas_day)
    if missing.points is None:
        return f"{day}: what is missing is not known: {plain(missing.reason or '')}"
    shown = ", ".join(map(plain, missing.points[:POINTS_SHOWN])) or "none"
    more = len(missing.points) - POINTS_SHOWN
    return f"{day}: {len(missing.points)} of {missing.of} meter points are not Valid yet: {shown}" + (
        f" and {more} more" if more > 0 else ""
    )
