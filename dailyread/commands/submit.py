"""`dailyread submit`: publishes facts that people enter, from JSON Lines to Kafka, and waits until Kafka has them."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

from kafka.errors import KafkaError

from collectors.frames import Message, Route, pack
from collectors.outbox import FACT_BYTES_MAX, StoredFact
from collectors.publisher import give_up
from dailyread.config import KafkaConfig, StreamConfig, add_config_argument, config_or_exit
from dailyread.jsonlines import BadLine, read_facts
from dailyread.kafka import TopicsError, producer, trouble
from metering.facts import AnyFact
from metering.wire import encode_fact

HELP = """Publish facts from a file of JSON Lines: registrations, meters, calorific values, readings that were taken by hand.
A line that is no fact is reported with its number, the field and what is allowed; the others are published. Facts that come
again count once, so after any trouble the same file can be submitted again. Exit 0: Kafka has all of them; 2: lines were
wrong (or the configuration is); 1: Kafka did not take some."""

GATEWAY = "submit"
IN_FLIGHT_MESSAGES = 64
ACKNOWLEDGED_WITHIN_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    parser.add_argument("file", metavar="FACTS.jsonl", help="the facts, one JSON object a line; - is standard input")


def run(args: argparse.Namespace) -> int:
    """Submit the file; returns the exit code."""
    config = config_or_exit(StreamConfig, args.config).kafka
    bad: list[BadLine] = []
    try:
        with _opened(args.file) as lines:
            acknowledged = _submit(config, _good(numbered_facts(lines, config.time == "simulated"), bad))
    except OSError as error:
        print(f"{args.file}: {error.strerror or error}", file=sys.stderr)
        return 2
    except NotAcknowledged as error:
        print(error, file=sys.stderr)
        return 1
    except TopicsError as error:
        print(*error.differences, sep="\n", file=sys.stderr)
        return 1
    except KafkaError as error:
        print(trouble(config, error), file=sys.stderr)
        return 1
    print(f"{acknowledged} facts acknowledged by Kafka" + (f"; {len(bad)} lines were wrong" if bad else ""))
    return 2 if bad else 0


class NotAcknowledged(Exception):
    """Kafka did not take a message; says which lines were in it."""


def numbered_facts(lines: Iterable[bytes], simulated: bool) -> Iterator[StoredFact | BadLine]:
    """Each line's fact with the line's number as its id, or what is wrong with the line.

    In broker time the log sets `received_at`, so that a line may not say it; in simulated time the line must.
    """
    for number, line in enumerate(lines, 1):
        for found in read_facts([line], received=simulated):
            reason = found.reason if isinstance(found, BadLine) else _refused(found, simulated)
            if isinstance(found, BadLine) or reason:
                yield BadLine(number, reason)
                continue
            size = len(encode_fact(found))
            if size > FACT_BYTES_MAX:
                yield BadLine(number, f"a fact of {size} bytes packed; allowed: at most {FACT_BYTES_MAX}")
            else:
                yield StoredFact(number, found.received_at or datetime.now(UTC), found, size)


def _refused(fact: AnyFact, simulated: bool) -> str:
    if fact.received_at is None:
        return ""
    if not simulated:
        return "received_at: set by Kafka when it appends the fact; allowed: leave it out"
    if fact.received_at.microsecond % 1000:
        return f"received_at: {fact.received_at.isoformat()} is finer than Kafka keeps; allowed: whole milliseconds"
    return ""


def _good(found: Iterable[StoredFact | BadLine], bad: list[BadLine]) -> Iterator[StoredFact]:
    for entry in found:
        if isinstance(entry, BadLine):
            print(entry, file=sys.stderr)
            bad.append(entry)
        else:
            yield entry


def _submit(config: KafkaConfig, facts: Iterable[StoredFact]) -> int:
    """Publish, and wait for the acknowledgements; returns how many facts Kafka has."""
    route = Route(
        facts_topic=config.topics.facts,
        broadcast_topic=config.topics.broadcast,
        partitions=config.partitions,
        gateway=GATEWAY,
        simulated=config.time == "simulated",
    )
    client = producer(config)
    acknowledged = 0
    waiting: deque[tuple[Message, Any]] = deque()
    try:
        for message in pack(facts, route):
            future = client.send(
                message.topic, value=message.value, partition=message.partition, timestamp_ms=message.timestamp_ms
            )
            waiting.append((message, future))
            if len(waiting) >= IN_FLIGHT_MESSAGES:
                acknowledged += _acknowledged(*waiting.popleft())
        while waiting:
            acknowledged += _acknowledged(*waiting.popleft())
    finally:
        give_up(client)
    return acknowledged


def _acknowledged(message: Message, future: Any) -> int:
    try:
        future.get(timeout=ACKNOWLEDGED_WITHIN_S)
    except KafkaError as error:
        first, last = min(message.ids), max(message.ids)
        raise NotAcknowledged(
            f"not acknowledged by Kafka ({error}): facts of lines {first} to {last}, and perhaps later ones;"
            " submit the file again, what Kafka has already counts once"
        ) from error
    return len(message.ids)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file
