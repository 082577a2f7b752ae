"""`dailyread rebuild`: makes InfluxDB's ledger, or a worker's state on disk, anew from the topics."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.rebuild_request import ask
from dailyread.rules_file import name_of, rules_or_exit
from dailyread.storing import index_path, influx_or_exit, run_writer
from metering.rules_digest import digest
from storage.fact_store import FACT_STORES
from storage.offset_index import forget
from storage.sqlite import StoreError
from stream.state_file import STATE_FILES, is_in_use

HELP = """Make anew what can be made from the Kafka topics. `influx`: write the whole `ledger` topic to InfluxDB again, from
the start, and end when it is done; stop `dailyread store` first. Records that are in the bucket already are replaced, those
of another topic stay: for these, begin with an empty bucket. `state`: remove the state and the facts that a stopped worker
keeps in `state_dir`; when it starts again, it takes them from the topics. States that were made under other rules than those
of the configuration are then made anew from the facts, and the records that differ are published; without this a worker
refuses them. Do it for every worker of the group, all stopped, with the same rules. Exit 0: done; 1: not, because something
is in use, or as the log says; 2: the configuration is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", choices=("influx", "state"), help="InfluxDB's ledger, or this machine's state of the worker")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Rebuild; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    return _influx(config) if args.what == "influx" else _state(config)


def _influx(config: StreamConfig) -> int:
    influx_or_exit(config)
    try:
        forget(index_path(config))
    except StoreError as error:
        print(f"{error}; stop `dailyread store` first", file=sys.stderr)
        return 1
    return run_writer(config, once=True)


def _state(config: StreamConfig) -> int:
    rules, state_dir = rules_or_exit(config.rules), config.state_dir
    states, facts = sorted(state_dir.glob(STATE_FILES)), sorted(state_dir.glob(FACT_STORES))
    for path in (*filter(is_in_use, states), *(each for each in facts if _is_locked(each / "LOCK"))):
        print(f"{path}: in use by another process; stop `dailyread stream` first", file=sys.stderr)
        return 1
    for path in (*states, *facts):
        print(f"removing {path}")
        shutil.rmtree(path)
    if not states and not facts:
        print(f"{state_dir}: no state of a worker here")
    ask(state_dir, digest(rules), datetime.now(UTC))
    print(f"states of other rules will be made anew by {name_of(config.rules)} ({digest(rules).hex()})")
    return 0


def _is_locked(path: Path) -> bool:
    """Whether a process has the fact store of this lock open; it would need the lock to make one."""
    if not path.exists():
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
