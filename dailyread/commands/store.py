"""`dailyread store`: writes the ledger from Kafka to InfluxDB."""

from __future__ import annotations

import argparse

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.metrics_page import add_metrics_argument
from dailyread.storing import run_writer

HELP = """Write the ledger's records from the Kafka topic `ledger` to InfluxDB, until SIGTERM or Ctrl-C. Run one of it. While
InfluxDB or Kafka is away it waits and says so once; nothing is lost. It keeps a small file in `state_dir`
(ledger-index.sqlite): which record rests on which facts, and how far it has read. What InfluxDB refuses goes to the
dead-letter topic, with the reason. Exit 0: told to stop, or with --once all written; 1: somebody must see to something, as
the last line of the log says (access, disk, a limit of InfluxDB); 2: the configuration is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--once", action="store_true", help="end when all that is in the topic is written")
    add_metrics_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write until told to stop; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    return run_writer(config, args.once, args.metrics)
