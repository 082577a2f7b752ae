"""`dailyread provide`: gives each User its readings, as files and on a topic (M4.5, M4.6.1(b))."""

from __future__ import annotations

import argparse
import sys

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.metrics_page import add_metrics_argument
from dailyread.providing import run_provision
from metering.rules import Rules, load

HELP = """Give each User the Daily Meter Readings of its meter points: a CSV file a User and Gas Day, by 11:00 on the following
Day, and again with the next version when something changes before the Exit Close-Out; and the hourly readings every four
hours. Each version is written to a folder and published to the User's topic, and Valid readings in it become `provided`
facts. Until SIGTERM or Ctrl-C; run one of it. While Kafka is away it waits and says so once. It keeps its book in
`state_dir` (provision.sqlite); where that is lost it is made again from the topics. Exit 0: told to stop, or with --once all
that is due is published; 1: somebody must see to something, as the last line of the log says; 2: the configuration is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="read all that is in the topics, publish what is or will be due once gathered, and end",
    )
    add_metrics_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Provide until told to stop; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    try:
        rules = Rules() if config.rules is None else load(config.rules.read_bytes())
    except (OSError, ValueError) as error:
        print(f"{config.rules}: {error}", file=sys.stderr)
        return 2
    return run_provision(config, rules, args.once, args.metrics)
