"""Users' topics: one each, made when it is first needed; a message is a version of a file, as it lies in the folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from dailyread.config import KafkaConfig
from dailyread.kafka import admin, consumer, create_topics, existing, user_topic
from dailyread.presence import Presence, patiently
from dailyread.sender import Outgoing
from metering.provision import FileName, safe_name
from storage.provision import Publication, Version

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # as topics.toml has it


class UserTopics:
    """The topics whose names begin with `prefix`."""

    def __init__(self, config: KafkaConfig, prefix: str, presence: Presence, wait: Callable[[float], None]) -> None:
        self._config, self._prefix = config, prefix
        self._presence, self._wait = presence, wait
        self._made: set[str] = set()

    def make(self, users: Iterable[str]) -> None:
        """Makes the topics of these Users that are not there yet; patient while Kafka is away or refuses."""
        missing = {user for user in users if self._name(user) not in self._made}
        if missing:
            patiently(self._presence, self._wait, lambda: self._make({self._name(user) for user in missing}))

    def message(self, publication: Publication) -> Outgoing:
        """The message of a version."""
        file = publication.file
        day = date.fromordinal(file.gas_day).isoformat()
        headers = {"user": file.user, "gas_day": day, "part": str(file.part), "version": str(publication.version)}
        return Outgoing(
            self._name(file.user), publication.content, 0, f"{day}/{file.part}".encode(),
            tuple((name, value.encode()) for name, value in headers.items()),
            publication.made_us // 1000 if self._config.time == "simulated" else None,
        )  # fmt: skip

    def published(self) -> Iterator[tuple[FileName, Version]]:
        """Every version of every file that the topics hold. KafkaError where no broker answers."""
        with admin(self._config) as client:
            names = sorted(name for name in existing(client) if name.startswith(self._prefix))
        if not names:
            return
        reader = consumer(
            self._config, fetch_max_bytes=MESSAGE_BYTES_MAX, max_partition_fetch_bytes=MESSAGE_BYTES_MAX, max_poll_records=50
        )
        try:
            yield from _read(reader, [TopicPartition(name, 0) for name in names])
        finally:
            reader.close()

    def _make(self, names: set[str]) -> None:
        with admin(self._config) as client:
            create_topics(client, [user_topic(self._config, name) for name in sorted(names)])
        self._made |= names

    def _name(self, user: str) -> str:
        return self._prefix + safe_name(user)


def _read(reader: KafkaConsumer, places: list[TopicPartition]) -> Iterator[tuple[FileName, Version]]:
    """All messages up to where the topics end now."""
    reader.assign(places)
    ends = reader.end_offsets(places)
    reader.seek_to_beginning(*places)
    while any(reader.position(place) < ends[place] for place in places):
        for messages in reader.poll(timeout_ms=500).values():
            for message in messages:
                if (found := _parsed(message)) is None:
                    log.warning("%s offset %d: no file of ours; passed over", message.topic, message.offset)
                else:
                    yield found


def _parsed(message: Any) -> tuple[FileName, Version] | None:
    try:
        said = {name: value.decode() for name, value in message.headers}
        file = FileName(said["user"], date.fromisoformat(said["gas_day"]).toordinal(), int(said["part"]))
        return file, Version(int(said["version"]), message.value, message.timestamp * 1000)
    except (KeyError, ValueError):
        return None
