"""`dailyread export`: all facts of the topics as JSON Lines, with the instant at which each was received."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kafka.errors import KafkaError

from dailyread.config import StreamConfig, add_config_argument, config_or_exit
from dailyread.facts_topic import FactsOnDisk, Position, origins_of, read_messages, received_facts
from dailyread.kafka import TopicsError, trouble
from metering.wire import Origin, UnknownVersion

HELP = """Write all facts that the topics hold now as JSON Lines, each with the instant at which it was received, in the order
of (received_at, canonical bytes). `dailyread replay` of it gives the ledger. What is no fact, or stands where the stream job
does not look for it, is reported and counted, and left out. Exit 0: done; 1: no broker answers, the topics are not as they
must be, or a frame is of a later version than this program knows; 2: the configuration is wrong."""


@dataclass
class Counts:
    """What was found."""

    messages: int = 0
    facts: int = 0
    left_out: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to this file (default: standard output)")


def run(args: argparse.Namespace) -> int:
    """Export; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config)
    counts = Counts()
    try:
        with tempfile.TemporaryDirectory(prefix="dailyread-export-") as folder, FactsOnDisk(Path(folder) / "facts.db") as facts:
            _gather(config, facts, counts)
            with _written(args.output) as out:
                for line in facts.in_order():
                    counts.facts += 1
                    out.write(line + b"\n")
    except UnknownVersion as error:
        print(f"{error}; upgrade this program", file=sys.stderr)
        return 1
    except TopicsError as error:
        print(*error.differences, sep="\n", file=sys.stderr)
        return 1
    except KafkaError as error:
        print(trouble(config.kafka, error), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{args.output or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{counts.facts} facts from {counts.messages} messages; {counts.left_out} left out", file=sys.stderr)
    return 0


def _gather(config: StreamConfig, facts: FactsOnDisk, counts: Counts) -> None:
    for message in read_messages(config.kafka, _progress):
        counts.messages += 1
        place, origins = Origin(message.topic, message.partition, message.offset), origins_of(message)
        for found in received_facts(message, config.kafka):
            if isinstance(found, str):
                counts.left_out += 1
                print(f"{message.topic}[{message.partition}] offset {message.offset}: left out: {found}", file=sys.stderr)
            else:
                facts.add(found, place, origins)


def _progress(position: Position) -> None:
    print(f"read {position.read} of {position.total} messages", file=sys.stderr)


@contextmanager
def _written(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that is there only when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
