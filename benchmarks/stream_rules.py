"""What every contender of `benchmarks.stream` does with a message: toy rules, or the whole rules of `metering/`.

The contenders differ in how messages, states and records come and go; what happens in between is the same code. `own_us`
measures it alone: it is what a contender's time is to be freed of.
"""

from __future__ import annotations

import gc
import struct
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import msgspec

from metering.gasday import to_datetime
from metering.messages import encode_change
from metering.point import Point
from metering.rules import Rules
from metering.state import decode_state, encode_state, prune
from metering.wire import Entry, PackedReadings, open_frame, read_entry

CYCLES_EVERY = (50_000, 10, 10)  # as stream/worker.py has it: for all contenders, and for the rules alone
KeyValue = tuple[bytes, bytes]
RULES = Rules()
DAYS = RULES.calendar()


class Message(NamedTuple):
    """A message of the facts topic."""

    key: bytes
    value: bytes
    partition: int
    timestamp_ms: int
    days: int  # meter-Days in it


class Kind(Protocol):
    """Rules, as a contender drives them."""

    def load(self, meter_point: str, state: bytes | None) -> Any:
        """A meter point to go on from, of a state's bytes; a new one of None."""

    def apply(self, point: Any, entries: Sequence[Entry], offset: int) -> list[KeyValue]:
        """The records that follow."""

    def save(self, point: Any) -> bytes:
        """The point's state."""


class Toy:
    """Some additions: the volume of each Day, and of all. For what a framework costs when the rules cost next to nothing."""

    _state = struct.Struct(">qq")

    def load(self, meter_point: str, state: bytes | None) -> list[int]:
        return list(self._state.unpack(state)) if state else [0, 0]

    def apply(self, point: list[int], entries: Sequence[Entry], offset: int) -> list[KeyValue]:
        records = []
        for entry in entries:
            content = entry.content
            if isinstance(content, PackedReadings):
                index = tuple(accumulate(content.index))
                volume = index[-1] - index[0]
                point[0] += 1
                point[1] += volume
                value = msgspec.json.encode((content.meter_point, content.gas_day, volume, *point))
                records.append((f"{content.meter_point} {content.gas_day}".encode(), value))
        return records

    def save(self, point: list[int]) -> bytes:
        return self._state.pack(*point)


class Whole:
    """The rules, as `stream/processor.py` drives them."""

    def load(self, meter_point: str, state: bytes | None) -> Point:
        return decode_state(state, RULES, DAYS) if state else Point(meter_point, RULES, DAYS)

    def apply(self, point: Point, entries: Sequence[Entry], offset: int) -> list[KeyValue]:
        content = entries[0].content
        if len(entries) == 1 and isinstance(content, PackedReadings):
            changes = point.apply_readings(entries[0].received_at, content, entries[0].packed)
        else:
            changes = point.apply([entry.fact() for entry in entries])
        return [encode_change(change, 0, offset) for change in changes]

    def save(self, point: Point) -> bytes:
        prune(point)
        return encode_state(point)


KINDS: dict[str, Callable[[], Kind]] = {"toy": Toy, "whole": Whole}


def by_point(value: bytes, timestamp_ms: int) -> dict[str, list[Entry]]:
    """A frame's facts, checked, by meter point."""
    received_at = to_datetime(timestamp_ms * 1000)
    return arranged([read_entry(packed, received_at) for packed in open_frame(value).entries])


def arranged(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """These facts by meter point."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.content.meter_point, []).append(entry)  # type: ignore[union-attr]
    return found


def is_readings(packed: bytes) -> bool:
    """Whether an entry of a frame holds readings: the only array."""
    return packed[0] in (0xDC, 0xDD) or 0x90 <= packed[0] <= 0x9F


def readings_in(found: dict[str, list[Entry]]) -> int:
    """How many meter-Days."""
    return sum(isinstance(entry.content, PackedReadings) for entries in found.values() for entry in entries)


class Own(NamedTuple):
    """Microseconds of processor time that the rules alone take for a meter-Day, and for a point's state."""

    apply_us: float
    save_us: float


def own_us(kind: Kind, messages: Sequence[Message], warm: int) -> Own:
    """Measure the rules on these messages, from the first one after so many meter-Days on."""
    gc.set_threshold(*CYCLES_EVERY)
    points: dict[str, Any] = {}
    seen, apply_s, save_s, clock = 0, 0.0, 0.0, time.thread_time
    for offset, message in enumerate(messages):
        began = clock()
        touched = []
        found = by_point(message.value, message.timestamp_ms)
        for meter_point, entries in found.items():
            point = points.get(meter_point)
            if point is None:
                point = points[meter_point] = kind.load(meter_point, None)
            kind.apply(point, entries, offset)
            touched.append(point)
        applied = clock()
        for point in touched:
            kind.save(point)
        if seen >= warm:
            apply_s += applied - began
            save_s += clock() - applied
        seen += message.days
    return Own(apply_s / (seen - warm) * 1e6, save_s / (seen - warm) * 1e6)
