"""`dailyread check`: says what is wrong with a configuration file, where, and what would be right."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from dailyread.config import GatewayConfig, kind_of, load_config
from dailyread.meters import told
from dailyread.rules_file import name_of, rules_or_exit
from dailyread.settings import ConfigError
from metering.rules_digest import digest

HELP = """Check a configuration file (gateway or stream job) together with the DAILYREAD_… variables of the
environment, as every start does, and the files that it names: maps, rules, certificates, passwords. Prints every mistake
with file, key, what was found and what is allowed; of a usable one the meters as they are understood, and the digest of its
rules, which a worker's states carry and `dailyread status` shows. Connects to nothing.
Exit 0: usable; 2: not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the TOML file")


def run(args: argparse.Namespace) -> int:
    """Check the file; returns the exit code."""
    try:
        kind = kind_of(args.file)
        config = load_config(kind, args.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    name = "a gateway" if isinstance(config, GatewayConfig) else "a stream job"
    print(f"{args.file}: fine, the configuration of {name}")
    for line in _meters(config) if isinstance(config, GatewayConfig) else ():
        print(f"  {line}")
    print(f"its rules: {name_of(config.rules)} ({digest(rules_or_exit(config.rules)).hex()})")
    return 0


def _meters(config: GatewayConfig) -> Iterator[str]:
    """Each meter as it is understood: those that are asked, and those that push."""
    yield from (told(meter) for meter in config.meters)
    if config.mqtt is not None:
        for logger in config.mqtt.loggers:
            yield f"{logger.meter_point}  {logger.meter}  pushed by logger {logger.logger} through {config.mqtt.broker}"
    if config.dlms_push is not None:
        for meter in config.dlms_push.meters:
            sender = f"pushes as {meter.sender} to {config.dlms_push.listen}, map {meter.map}"
            yield f"{meter.meter_point}  {meter.meter}  {sender}"
