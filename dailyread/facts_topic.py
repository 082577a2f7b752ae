"""Reading the facts back out of Kafka: every message up to the present end, and each fact as the stream job takes it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from dailyread.config import KafkaConfig
from dailyread.jsonlines import write_fact
from dailyread.kafka import TopicRole, check_topics, consumer, wanted_topics
from metering.facts import AnyFact, Tick, meter_point_of
from metering.gasday import to_datetime, to_us
from metering.wire import FrameError, Origin, UnknownVersion, canonical, decode_frame, open_frame, partition_of
from stream.processor import REDRIVE, RELAY

PROGRESS_EVERY_S = 2.0
SILENT_S_MAX = 60.0


class Position(NamedTuple):
    """How far reading has come, in messages."""

    read: int
    total: int


class Appended(NamedTuple):
    """A message of the log. `timestamp_ms` is when the broker appended it, or the virtual instant."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


def read_messages(
    config: KafkaConfig, progress: Callable[[Position], None], roles: Sequence[TopicRole] = ("broadcast", "facts")
) -> Iterator[Appended]:
    """All messages of the broadcast and facts topics, or of those of other roles, up to where they end now. KafkaError,
    TopicsError."""
    check_topics(config, roles)
    topics = wanted_topics(config, roles)
    client = consumer(config)
    try:
        yield from _read(client, [TopicPartition(topic.name, n) for topic in topics for n in range(topic.partitions)], progress)
    finally:
        client.close()


def received_facts(message: Appended, config: KafkaConfig) -> Iterator[AnyFact | str]:
    """The facts of a message with `received_at`; a sentence for each that is none, or is where it does not count.

    UnknownVersion, naming the message, for a frame of a later version.
    """
    try:
        frame = decode_frame(message.value)
    except UnknownVersion as error:
        raise UnknownVersion(f"{message.topic}[{message.partition}] offset {message.offset}: {error}") from error
    except FrameError as error:
        yield str(error)
        return
    broadcast = message.topic == config.topics.broadcast
    if frame.received_at is not None and not broadcast and frame.gateway != RELAY:
        yield f"gateway {frame.gateway} says when it was received; that is the broker's to say"
        return
    for broken in frame.broken:
        yield f"fact {broken.number}: {broken.reason}"
    relayed = None if broadcast else frame.received_at
    received_at = relayed or to_datetime(message.timestamp_ms * 1000)
    for fact in frame.facts:
        reason = _misplaced(fact, message, config, broadcast or relayed is not None)
        yield reason or _received(fact, received_at)


def _misplaced(fact: AnyFact, message: Appended, config: KafkaConfig, for_many: bool) -> str:
    point = meter_point_of(fact)
    kind = fact.__struct_config__.tag
    if for_many:
        return f"{kind} of the meter point {point} among what concerns many" if point is not None else ""
    if point is None:
        return f"{kind} concerns many and belongs into the topic {config.topics.broadcast}"
    right = partition_of(point, config.partitions)
    return f"{kind} of the meter point {point} belongs into partition {right}" if right != message.partition else ""


def _received(fact: AnyFact, received_at: datetime) -> AnyFact:
    # As the relay does: a sender's clock may be ahead of the broker's, but a tick says no more than that it is this late.
    if isinstance(fact, Tick) and fact.now > received_at:
        return msgspec.structs.replace(fact, now=received_at, received_at=received_at)
    return msgspec.structs.replace(fact, received_at=received_at)


def _read(
    client: KafkaConsumer, partitions: Sequence[TopicPartition], progress: Callable[[Position], None]
) -> Iterator[Appended]:
    client.assign(partitions)
    starts, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
    total = sum(ends.values()) - sum(starts.values())
    for partition in partitions:
        client.seek(partition, starts[partition])
    read, said_at, came_at = 0, time.monotonic(), time.monotonic()
    while any(client.position(partition) < ends[partition] for partition in partitions):
        polled = client.poll(timeout_ms=500)
        if polled:
            came_at = time.monotonic()
        elif time.monotonic() - came_at > SILENT_S_MAX:
            raise KafkaTimeoutError(f"nothing came for {SILENT_S_MAX:.0f} s, after {read} of {total} messages")
        for partition, messages in polled.items():
            for message in messages:
                if message.offset < ends[partition]:
                    read += 1
                    yield Appended(
                        partition.topic, partition.partition, message.offset, message.timestamp, message.value or b""
                    )
        if time.monotonic() - said_at > PROGRESS_EVERY_S:
            said_at = time.monotonic()
            progress(Position(read, total))


def origins_of(message: Appended) -> tuple[Origin, ...]:
    """Where the facts of a message that puts them back stood before: they do not count there."""
    try:
        frame = open_frame(message.value)
    except FrameError:
        return ()
    return frame.origins if frame.gateway == REDRIVE else ()


class FactsOnDisk:
    """Facts as lines in a temporary file, to be had in order; there may be more than memory holds."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE facts (received_us INTEGER, canonical BLOB, line BLOB, place TEXT)")
        self._db.execute("CREATE TABLE left_out (place TEXT, canonical BLOB, PRIMARY KEY (place, canonical)) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()

    def add(self, fact: AnyFact, place: Origin, instead_of: Sequence[Origin] = ()) -> None:
        """Keep a fact, which has `received_at`, and where it stands. It does not count at the places `instead_of` which it does
        here, whether they come before or behind."""
        assert fact.received_at is not None
        same = canonical(fact)
        row = (to_us(fact.received_at), same, write_fact(fact), _text(place))
        self._db.execute("INSERT INTO facts VALUES (?, ?, ?, ?)", row)
        self._db.executemany("INSERT OR IGNORE INTO left_out VALUES (?, ?)", [(_text(each), same) for each in instead_of])

    def in_order(self) -> Iterator[bytes]:
        """The lines by (received_at, canonical bytes); of lines that are the same, as relayed copies are, one."""
        query = (
            "SELECT DISTINCT received_us, canonical, line FROM facts WHERE NOT EXISTS"
            " (SELECT 1 FROM left_out WHERE left_out.place = facts.place AND left_out.canonical = facts.canonical)"
            " ORDER BY received_us, canonical, line"
        )
        for _, _, line in self._db.execute(query):
            yield line


def _text(place: Origin) -> str:
    return f"{place.topic}/{place.partition}/{place.offset}"
