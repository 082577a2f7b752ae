"""`dailyread check`: says what is wrong with a configuration file, where, and what would be right."""

from __future__ import annotations

import argparse
import sys
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
    for meter in config.meters if isinstance(config, GatewayConfig) else ():
        print(f"  {told(meter)}")
    print(f"its rules: {name_of(config.rules)} ({digest(rules_or_exit(config.rules)).hex()})")
    return 0
