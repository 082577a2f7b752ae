"""Putting dead letters back: what could not be used, what of it can be by now, and the frames that bring it.

A fact that is put back is received when the broker appends it then: until that nobody had used it, and nothing that was said
to anybody by then changes. Its frame says where it stood before, so that a program that can read it there by now does not
take it for received earlier. It keeps its identity, so putting it back twice does no harm.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from collectors.outbox import FACT_BYTES_MAX
from dailyread.config import KafkaConfig
from dailyread.facts_topic import Appended
from dailyread.sender import Outgoing
from metering.facts import meter_point_of
from metering.gasday import to_datetime
from metering.messages import PLACES_A_LETTER, DeadLetter, decode_dead_letter, encode_dead_letter, places_of
from metering.wire import NOT_A_FACT, FrameError, OpenFrame, Origin, frame_of, open_frame, partition_of, read_entry
from stream.processor import REDRIVE, RELAY

log = logging.getLogger(__name__)
SEEK_OVER = 1_000  # messages that are quicker read than passed over
POLL_MS, SILENT_POLLS = 500, 60


class Wanted(NamedTuple):
    """Which dead letters: null, all. `reason` is a part of it; `since` is when the letter was written."""

    topic: str | None = None
    partition: int | None = None
    reason: str | None = None
    since: datetime | None = None
    again: bool = False

    def has(self, letter: DeadLetter, timestamp_ms: int) -> bool:
        """Whether it is one of them."""
        return (
            self.topic in (None, letter.topic)
            and self.partition in (None, letter.partition)
            and (self.reason is None or self.reason in letter.reason)
            and (self.since is None or to_datetime(timestamp_ms * 1000) >= self.since)
        )


class Lost(NamedTuple):
    """Facts by their numbers in a frame that could not be used, each with the reason; null stands for the whole frame."""

    numbers: dict[int | None, str]


class Found(NamedTuple):
    """What became of one message's: the frames to send, the numbers that are in them, and why the others stay."""

    place: Origin
    frames: list[Outgoing]
    numbers: list[int | None]
    facts: int
    stay: list[str]


def lost_by_place(letters: Iterable[Appended], wanted: Wanted) -> dict[Origin, Lost]:
    """What the messages of the dead-letter topic speak of and was not put back yet, in the order of its places."""
    lost: defaultdict[Origin, Lost] = defaultdict(lambda: Lost({}))
    done: set[tuple[Origin, int | None]] = set()
    for message in letters:
        try:
            letter = decode_dead_letter(message.value)
        except FrameError as error:
            log.warning("%s[%d] offset %d: %s", message.topic, message.partition, message.offset, error)
            continue
        for place, number in _stood(letter):
            if letter.redriven:
                done.add((place, number))
            elif wanted.has(letter, message.timestamp_ms):
                lost[place].numbers[number] = letter.reason
    for place, number in () if wanted.again else done:
        if place in lost:
            lost[place].numbers.pop(number, None)
    return {place: lost[place] for place in sorted(lost) if lost[place].numbers}


def read_again(client: KafkaConsumer, lost: Mapping[Origin, Lost]) -> Iterator[tuple[Origin, Appended | None]]:
    """The messages in which it stood, in this order; null where a message is no longer in its topic. TimeoutError."""
    for tp in dict.fromkeys(TopicPartition(place.topic, place.partition) for place in lost):
        client.assign([tp])
        begin, end = client.beginning_offsets([tp])[tp], client.end_offsets([tp])[tp]
        places = [place for place in lost if place[:2] == tp]
        yield from ((place, None) for place in places if not begin <= place.offset < end)
        yield from _read(client, tp, [place for place in places if begin <= place.offset < end])


def find(place: Origin, message: Appended | None, lost: Lost, config: KafkaConfig) -> Found:
    """What of a message can be used now, and the frames that bring it there."""
    if message is None:
        return Found(place, [], [], 0, ["is no longer in the topic"] * len(lost.numbers))
    try:
        frame = open_frame(message.value)
    except FrameError as error:
        return Found(place, [], [], 0, [str(error)] * len(lost.numbers))
    numbers = range(len(frame.entries)) if None in lost.numbers else [n for n in lost.numbers if n is not None]
    usable: defaultdict[tuple[str, int, bool], list[bytes]] = defaultdict(list)
    brought: list[int | None] = []
    stay: list[str] = []
    for number in numbers:
        try:
            usable[_destination(frame, number, message, config)].append(frame.entries[number])
            brought += [number] if number in lost.numbers else []
        except (*NOT_A_FACT, IndexError) as error:
            stay.append(str(error))
    frames = [each for where, entries in usable.items() for each in _frames(where, entries, frame, place)]
    if None in lost.numbers and frames and not stay:
        brought.append(None)
    return Found(place, frames, brought, sum(map(len, usable.values())), stay)


def notes(found: Sequence[Found]) -> Iterator[bytes]:
    """Messages for the dead-letter topic that say what was put back."""
    stood: defaultdict[tuple[str, int], list[tuple[int, int | None]]] = defaultdict(list)
    for each in found:
        stood[each.place[:2]] += [(each.place.offset, number) for number in each.numbers]
    for (topic, partition), numbers in stood.items():
        places = list(places_of(sorted(numbers, key=lambda at: (at[0], -1 if at[1] is None else at[1]))))
        for first in range(0, len(places), PLACES_A_LETTER):
            part = tuple(places[first : first + PLACES_A_LETTER])
            yield encode_dead_letter(
                DeadLetter(
                    topic=topic,
                    partition=partition,
                    offset=part[0].offset,
                    number=None,
                    reason="put back",
                    payload=b"",
                    places=part,
                    redriven=True,
                )
            )


def _stood(letter: DeadLetter) -> Iterator[tuple[Origin, int | None]]:
    if not letter.places:
        yield Origin(letter.topic, letter.partition, letter.offset), letter.number
    for offset, first, last in letter.places:
        place = Origin(letter.topic, letter.partition, offset)
        if first is None or last is None:
            yield place, None
        else:
            yield from ((place, number) for number in range(first, last + 1))


def _read(client: KafkaConsumer, tp: TopicPartition, places: Sequence[Origin]) -> Iterator[tuple[Origin, Appended]]:
    waiting, silent, at = {place.offset: place for place in reversed(places)}, 0, -SEEK_OVER
    while waiting:
        following = next(reversed(waiting))
        if not 0 <= following - at < SEEK_OVER:
            client.seek(tp, at := following)
        messages = client.poll(timeout_ms=POLL_MS).get(tp, [])
        silent = 0 if messages else silent + 1
        if silent > SILENT_POLLS:
            raise TimeoutError(f"{tp.topic}[{tp.partition}]: nothing came for {SILENT_POLLS * POLL_MS // 1000} s")
        for message in messages:
            at = message.offset + 1
            if (place := waiting.pop(message.offset, None)) is not None:
                yield place, Appended(*place, message.timestamp, message.value or b"")


def _destination(frame: OpenFrame, number: int, message: Appended, config: KafkaConfig) -> tuple[str, int, bool]:
    """Topic and partition of an entry, and whether it goes there as of its first receipt, as the relay's copies do: the other
    partitions have had theirs as of that. One of NOT_A_FACT where it is no fact still."""
    point = meter_point_of(read_entry(frame.entries[number], to_datetime(message.timestamp_ms * 1000)).content)
    if point is not None:
        return config.topics.facts, partition_of(point, config.partitions), False
    if frame.gateway == RELAY and message.topic == config.topics.facts:
        return message.topic, message.partition, True
    return config.topics.broadcast, 0, False


def _frames(where: tuple[str, int, bool], entries: Sequence[bytes], frame: OpenFrame, place: Origin) -> Iterator[Outgoing]:
    topic, partition, relayed = where
    for part in _portions(entries):
        if relayed:
            yield Outgoing(topic, frame_of(part, RELAY, frame.received_at), partition)
        else:
            yield Outgoing(topic, frame_of(part, REDRIVE, None, (place, *frame.origins)), partition)


def _portions(entries: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The entries in portions that a frame may hold; one that is larger alone."""
    portion: list[bytes] = []
    size = 0
    for entry in entries:
        if portion and size + len(entry) > FACT_BYTES_MAX:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += len(entry)
    if portion:
        yield portion
